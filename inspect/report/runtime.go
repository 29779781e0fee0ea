package report

import (
	"strings"

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
	Name string `json:"name"`
	// Shape says how the provider comes (ort.ShapeBuiltIn, ort.ShapePlugin), ""
	// where it is part of ONNX Runtime itself. Library is the ONNX Runtime that it
	// was tried with, ProviderLibrary its own library; both "" where none was
	// found.
	Shape           string `json:"shape,omitempty"`
	Library         string `json:"library,omitempty"`
	ProviderLibrary string `json:"provider_library,omitempty"`
	Usable          bool   `json:"usable"`
	Reason          string `json:"reason,omitempty"`
}

// NewRuntime returns info with its schema.
func NewRuntime(info ort.Info) Runtime {
	r := Runtime{Schema: RuntimeSchema, Library: info.Library.Path, Source: info.Library.Source, Version: info.Version, Providers: []Provider{}}
	for _, p := range info.Providers {
		r.Providers = append(r.Providers, Provider{p.Name, p.Shape, p.Library, p.Provider, p.Usable, p.Reason})
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
	t := &Table{Main: true, Columns: []Column{
		{Title: "provider", Key: "provider"}, {Title: "comes as", Key: "shape", Sparse: true}, {Title: "usable", Key: "usable"},
		{Title: "library", Key: "library", Hidden: true}, {Title: "provider library", Key: "provider_library", Hidden: true},
		{Title: "with, or why not", Key: "reason", Wrap: true},
	}}
	for _, p := range r.Providers {
		usable := Cell{Text: "no", Raw: p.Usable, Tone: Removed}
		with := Cell{Text: strings.TrimPrefix(p.Reason, p.Shape+": "), Raw: p.Reason}
		if p.Usable {
			usable = Cell{Text: "yes", Raw: true, Tone: Added}
			with.Text = p.ProviderLibrary
			if p.Library != r.Library && p.Library != "" {
				with.Text = strings.TrimPrefix(with.Text+", with ", ", ") + p.Library
			}
		}
		t.Rows = append(t.Rows, []Cell{Words(p.Name), Words(p.Shape), usable, Words(p.Library), Words(p.ProviderLibrary), with})
	}
	return Document{Title: "ONNX Runtime " + r.Version, Sections: []Section{{
		Facts: []Fact{{"library", Words(r.Library)}, {"source", Words(source)}},
		Table: t,
	}}}
}
