// Package schema holds the published forms of what inspect, compare, eval and
// runtime write as JSON, as JSON Schema 2020-12. It is data; nothing else enters.
package schema

import "embed"

// Files holds the schemas by their names, such as "inspect.schema.json".
//
//go:embed *.schema.json
var Files embed.FS
