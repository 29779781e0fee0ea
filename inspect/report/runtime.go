package report

import (
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

// RuntimeSchema names the form of Runtime as JSON.
const RuntimeSchema = "filterlens.runtime/1"

// A Runtime is what `runtime` writes as JSON.
type Runtime struct {
	Schema    string     `json:"schema"`
	Library   string     `json:"library"`
	Source    string     `json:"source"`
	Version   string     `json:"version"`
	Providers []Provider `json:"providers"`
}

// A Provider is an execution provider of Runtime.
type Provider struct {
	Name   string `json:"name"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
}

// NewRuntime returns info with its schema.
func NewRuntime(info ort.Info) Runtime {
	r := Runtime{Schema: RuntimeSchema, Library: info.Library.Path, Source: info.Library.Source, Version: info.Version, Providers: []Provider{}}
	for _, p := range info.Providers {
		r.Providers = append(r.Providers, Provider{p.Name, p.Usable, p.Reason})
	}
	return r
}

// FromRuntime shows which ONNX Runtime is used and what it can run on.
func FromRuntime(r Runtime) Document {
	source := r.Source
	switch source {
	case "option":
		source = "named by --runtime-library"
	case "cache":
		source = "found in the user's cache"
	case "system":
		source = "found on the system's library path"
	case "fetched":
		source = "fetched just now"
	default:
		source = "named by the environment variable " + source
	}
	t := &Table{Main: true, Columns: []Column{{Title: "provider", Key: "provider"}, {Title: "usable", Key: "usable"}, {Title: "why not", Key: "reason", Wrap: true}}}
	for _, p := range r.Providers {
		usable := Cell{Text: "no", Raw: p.Usable, Tone: Removed}
		if p.Usable {
			usable = Cell{Text: "yes", Raw: true, Tone: Added}
		}
		t.Rows = append(t.Rows, []Cell{Words(p.Name), usable, Words(p.Reason)})
	}
	return Document{Title: "ONNX Runtime " + r.Version, Sections: []Section{{
		Facts: []Fact{{"library", Words(r.Library)}, {"source", Words(source)}},
		Table: t,
	}}}
}
