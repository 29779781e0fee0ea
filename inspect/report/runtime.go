package report

import (
	"strings"

	"github.com/filterlens/filterlens/inspect/engine/ort"
)

// RuntimeSchema names the form of Runtime as JSON.
const RuntimeSchema = "filterlens.runtime/1"

// A Runtime is what `runtime` writes as JSON.
type Runtime struct {
	Schema string `json:"schema"`
	// Engines lists those that this binary could run models with. Library, Source
	// and Version are those of ONNX Runtime, "" where there is none.
	Engines   []RuntimeEngine `json:"engines"`
	Library   string          `json:"library"`
	Source    string          `json:"source"`
	Version   string          `json:"version"`
	Providers []Provider      `json:"providers"`
}

// A RuntimeEngine is an engine of Runtime.
type RuntimeEngine struct {
	// Name is as --engine takes it; Version is "" where it is not usable.
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Usable  bool   `json:"usable"`
	Reason  string `json:"reason,omitempty"`
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

// NewRuntime returns info, which is empty where there is no ONNX Runtime, with the
// engines and its schema.
func NewRuntime(info ort.Info, engines []RuntimeEngine) Runtime {
	r := Runtime{Schema: RuntimeSchema, Engines: engines, Library: info.Library.Path, Source: info.Library.Source, Version: info.Version, Providers: []Provider{}}
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
	d := Document{Title: "No ONNX Runtime", Sections: []Section{{Facts: []Fact{{"library", Words("none")}}, Table: t}, engineSection(r.Engines)}}
	if r.Version != "" {
		d.Title = "ONNX Runtime " + r.Version
		d.Sections[0].Facts = []Fact{{"library", Words(r.Library)}, {"source", Words(source)}}
	}
	return d
}

func engineSection(engines []RuntimeEngine) Section {
	t := &Table{Columns: []Column{
		{Title: "engine", Key: "engine"}, {Title: "usable", Key: "usable"}, {Title: "version, or why not", Key: "version", Wrap: true},
	}}
	for _, e := range engines {
		row := []Cell{Words(e.Name), {Text: "no", Raw: false, Tone: Removed}, Words(e.Reason)}
		if e.Usable {
			row[1], row[2] = Cell{Text: "yes", Raw: true, Tone: Added}, Words(e.Version)
		}
		t.Rows = append(t.Rows, row)
	}
	return Section{Title: "Engines", Table: t}
}
