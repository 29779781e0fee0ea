// Package schema holds the published forms of what the verbs write as JSON, as
// JSON Schema 2020-12: inspect, stats (inspect --data), measuring (inspect --data
// --dry-run), definitions (inspect --explain), prune, plan (prune --dry-run),
// compare, compare-models (of three and more), compare-stats (of two measurements), eval, duel (eval --engine
// both) and runtime. It is data; nothing else enters.
package schema

import "embed"

// Files holds the schemas by their names, such as "inspect.schema.json".
//
//go:embed *.schema.json
var Files embed.FS
