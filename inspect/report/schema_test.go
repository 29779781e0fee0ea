package report

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/report/schema"
)

// compiled returns a published schema, and what it says as plain values.
func compiled(t *testing.T, name string) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	b, err := schema.Files.ReadFile(name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s, doc.(map[string]any)
}

// plain returns what v is when written as JSON.
func plain(t *testing.T, v any) any {
	t.Helper()
	var b bytes.Buffer
	if err := WriteJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func openModel(t *testing.T, path string, opt inspect.Options) (*inspect.Model, error) {
	t.Helper()
	f, err := onnxfile.Open(path)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { f.Close() })
	return inspect.New(t.Context(), f, opt)
}

// inspected returns documents that hold every property: those of the golden
// tests.
func inspected(t *testing.T) map[string]any {
	t.Helper()
	full := goldenModel()
	full.Domain, full.ModelVersion, full.Doc = "d", 1, "doc"
	full.Layers[0].Dilations, full.Layers[0].Pads, full.Layers[0].AutoPad, full.Layers[0].Bias = []int64{1, 1}, []int64{0, 0, 0, 0}, "VALID", "b1"
	full.Layers[0].Others = []string{"r1"}
	full.Totals.ParametersUnknown = 1
	rich := richModel()
	rich.Tensors[0].Scope = "if_3/then_branch"
	findings := goldenFindings()
	findings[0].Scope = "f"
	docs := map[string]any{
		"plain":  NewModel(goldenModel(), Selection{}, nil),
		"full":   NewModel(full, Selection{Filter: regexp.MustCompile("."), Top: 2, Depth: 1}, findings),
		"rich":   NewModel(rich, Selection{}, []inspect.Finding{}),
		"list":   []any{NewModel(rich, Selection{Sort: ByMemory}, findings), Failure{"x.onnx", "it is broken"}},
		"nobody": []any{},
	}
	for name, v := range docs {
		docs[name] = plain(t, v)
	}
	return docs
}

func TestInspectSchema(t *testing.T) {
	t.Parallel()
	s, _ := compiled(t, "inspect")
	docs := inspected(t)
	paths, err := filepath.Glob("../../fixtures/*.onnx")
	if err != nil || len(paths) < 3 {
		t.Fatalf("fixtures %q, %v", paths, err)
	}
	for _, path := range paths {
		m, err := openModel(t, path, inspect.Options{Weights: true, Statistics: true})
		if err != nil {
			t.Fatal(err)
		}
		docs[path] = plain(t, NewModel(m, Selection{Top: 3, Depth: 2}, nil))
	}
	for name, p := range unevenModels() {
		docs[name] = plain(t, pageModel(t, p, name))
	}
	for name, doc := range docs {
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What other projects' files give has the published form too. The corpus is not
// part of the repository.
func TestInspectSchemaCorpus(t *testing.T) {
	dir := os.Getenv("FILTERLENS_CORPUS")
	if dir == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	s, _ := compiled(t, "inspect")
	read := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".onnx" {
			return err
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		m, err := inspect.New(t.Context(), f, inspect.Options{Statistics: !f.External()})
		if err != nil {
			return nil
		}
		read++
		if err := s.Validate(plain(t, NewModel(m, Selection{Depth: 1}, nil))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || read == 0 {
		t.Fatalf("%d models read, %v", read, err)
	}
	t.Logf("%d models", read)
}

// Whatever is added to a document, taken from it or put in the place of another
// type no longer fits.
func TestSchemasAreStrict(t *testing.T) {
	t.Parallel()
	s, doc := compiled(t, "inspect")
	for name, v := range inspected(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			strict(t, name, s, doc, v)
		})
	}
}

// strict mutates each part of a valid document in turn.
func strict(t *testing.T, name string, s *jsonschema.Schema, schemaDoc map[string]any, doc any) {
	t.Helper()
	optional, counts := optionalProperties(schemaDoc), countProperties(schemaDoc)
	mutants := 0
	refused := func(what string) {
		t.Helper()
		mutants++
		if s.Validate(doc) == nil {
			t.Errorf("%s: still valid with %s", name, what)
		}
	}
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		for _, wrong := range []any{map[string]any{"x": 1}, true} {
			if _, isBool := v.(bool); isBool && wrong == true {
				wrong = "true"
			}
			set(wrong)
			refused(fmt.Sprintf("%v as %s", wrong, path))
		}
		set(v)
		switch v := v.(type) {
		case map[string]any:
			v["unheard-of"] = 1
			refused("an unknown property in " + path)
			delete(v, "unheard-of")
			for _, key := range slices.Sorted(maps.Keys(v)) {
				was := v[key]
				if counts[key] {
					for _, wrong := range []any{true, map[string]any{"x": -1}, map[string]any{"x": "1"}} {
						v[key] = wrong
						refused(fmt.Sprintf("%v as %s/%s", wrong, path, key))
					}
					v[key] = was
					continue
				}
				if !optional[key] {
					delete(v, key)
					refused("no " + path + "/" + key)
					v[key] = was
				}
				walk(path+"/"+key, was, func(x any) { v[key] = x })
			}
		case []any:
			for i, was := range v {
				walk(fmt.Sprintf("%s/%d", path, i), was, func(x any) { v[i] = x })
			}
		}
	}
	walk("", doc, func(x any) { doc = x })
	if err := s.Validate(doc); err != nil {
		t.Fatalf("%s: not put back: %v", name, err)
	}
	t.Logf("%s: %d mutants", name, mutants)
}

// optionalProperties returns the names that may be absent somewhere.
func optionalProperties(doc map[string]any) map[string]bool {
	optional := map[string]bool{}
	for _, d := range doc["$defs"].(map[string]any) {
		def := d.(map[string]any)
		props, _ := def["properties"].(map[string]any)
		required, _ := def["required"].([]any)
		for name := range props {
			if !slices.Contains(required, any(name)) {
				optional[name] = true
			}
		}
	}
	return optional
}

// countProperties returns the names of properties that hold counts by names which
// no schema can know.
func countProperties(doc map[string]any) map[string]bool {
	counts := map[string]bool{}
	for _, d := range doc["$defs"].(map[string]any) {
		props, _ := d.(map[string]any)["properties"].(map[string]any)
		for name, p := range props {
			_, open := p.(map[string]any)["additionalProperties"].(map[string]any)
			counts[name] = counts[name] || open
		}
	}
	return counts
}

// The schema and the types say the same: names, which of them may be absent, and
// the kinds of values. Every property is described.
func TestSchemaFitsTypes(t *testing.T) {
	_, doc := compiled(t, "inspect")
	fits(t, doc, map[string]any{
		"model": Model{}, "failure": Failure{}, "opset": inspect.Opset{}, "entry": inspect.KV{}, "value": inspect.Value{}, "operator": inspect.OpCount{},
		"function": inspect.Function{}, "layer": inspect.Layer{}, "type": inspect.TypeCount{}, "totals": inspect.Totals{}, "tensor": inspect.TensorStats{},
		"values": inspect.ValueStats{}, "selection": Applied{}, "sum": Sum{}, "group": Group{}, "finding": inspect.Finding{},
	})
}

// The forms of the other verbs.
func TestOtherSchemas(t *testing.T) {
	t.Parallel()
	evaluations := goldenEvaluations()
	evaluations.Skipped = []dataset.Skipped{{Name: "a", Reason: "b"}}
	evaluations.Warnings = []string{"w"}
	result := goldenResult()
	result.Nodes, result.Elsewhere = map[string]int{"cuda": 3, "cpu": 1}, []string{"Shape (a)"}
	result.Data.Skipped, result.Data.Split.Balanced = evaluations.Skipped, true
	result.Layers[0].Parts, result.Layers[0].ChannelsLast, result.Layers[0].Inner = []probe.FilterRange{{Layer: "a", First: 1, Filters: 2}}, true, true
	withFilterStatistics(result)
	result.Method, result.Input, result.Data.Stats.Content = probe.Method, []int64{3, 8, 8}, result.Data.Stats.SHA256
	result.Asked = probe.Asked{Thetas: []float64{0.2}, Stability: 2, Orders: 3, Confusion: true, Single: true, Top: 4}
	for _, c := range []struct {
		name  string
		docs  []any
		types map[string]any
	}{
		{"compare", []any{goldenComparedData(t), goldenDescribed(CompareChoice{})}, map[string]any{
			"compared": Compared{}, "side": ComparedSide{}, "delta": delta.Delta{}, "change": delta.Change{}, "value_delta": delta.ValueDelta{}, "value": inspect.Value{}, "node_delta": delta.NodeDelta{}, "node": delta.Node{},
			"tensor_delta": delta.TensorDelta{}, "tensor": delta.Tensor{}, "values": delta.Values{}, "filter_delta": delta.FilterDelta{}, "filter": delta.Filter{}, "channels": delta.ChannelDelta{}, "totals": delta.Totals{}, "filter_counts": delta.FilterCounts{},
			"description": DescriptionDelta{}, "layer_delta": DescribedChange{}, "data": ComparedData{}, "skipped": dataset.Skipped{}, "answers": probe.Answers{}, "evaluation": probe.Evaluation{}, "timing": probe.Timing{}, "flip": probe.Flip{}, "label_answers": probe.LabelAnswers{},
			"likeness": likeness.Likeness{}, "tap": likeness.Tap{}, "likeness_layer": likeness.Layer{}, "statistics": StatisticsDelta{}, "statistics_layer": StatisticsPair{}, "statistics_row": StatisticsRow{}, "part": probe.Part{}, "measured": Measured{}, "skip": probe.Skip{},
			"filter_difference": probe.FilterDifference{}, "label_change": probe.LabelChange{}}},
		{"runtime", []any{Runtime{Schema: RuntimeSchema, Engines: []RuntimeEngine{{Name: "onnxruntime", Reason: "no"}, {Name: "gorgonia", Version: "1", Usable: true}}, Providers: []Provider{{Name: "cuda", Shape: ort.ShapePlugin, Library: "l", ProviderLibrary: "p", Reason: "no"}, {Name: "cpu", Usable: true}}}}, map[string]any{
			"runtime": Runtime{}, "engine": RuntimeEngine{}, "provider": Provider{}}},
		{"eval", []any{evaluations}, map[string]any{
			"evaluations": Evaluations{}, "model": EvaluatedModel{}, "timing": probe.Timing{}, "skipped": dataset.Skipped{}}},
		{"duel", []any{goldenDuel(), randomDuel(), goldenSkippedDuel()}, map[string]any{
			"duel": Duel{}, "data": DuelData{}, "engine": DuelEngine{}, "output": DuelOutput{}, "extreme": DuelExtreme{}, "answer": DuelAnswer{}, "tensor": DuelTensor{},
			"evaluation": probe.Evaluation{}, "timing": probe.Timing{}, "skipped": dataset.Skipped{}}},
		{"stats", []any{goldenResult(), result}, map[string]any{
			"result": probe.Result{}, "data": probe.Data{}, "split": probe.Split{}, "part": probe.Part{}, "recipe": probe.Recipe{}, "asked": probe.Asked{}, "layer": probe.Layer{}, "range": probe.FilterRange{}, "stats": afcc.Stats{},
			"averages": afcc.Averages{}, "filter": afcc.Filter{}, "stability": afcc.Stability{}, "filter_stability": afcc.FilterStability{}, "label_frequency": afcc.LabelFrequency{},
			"cluster_stability": afcc.ClusterStability{}, "label_order": afcc.LabelOrder{}, "spread": afcc.Spread{}, "confusion": afcc.ClusterConfusion{}, "single_filter": probe.SingleFilter{}, "top_sample": probe.TopSample{}, "outliers": probe.Outliers{},
			"skip": probe.Skip{}, "left_out": probe.LeftOut{}, "skipped": dataset.Skipped{}}},
		{"plan", planDocuments(), planTypes()},
		{"prune", pruneDocuments(), pruneTypes()},
	} {
		s, doc := compiled(t, c.name)
		fits(t, doc, c.types)
		for _, v := range c.docs {
			v := plain(t, v)
			if err := s.Validate(v); err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			strict(t, c.name, s, doc, v)
		}
	}
}

// withFilterStatistics adds to the first layer what is measured only when it is asked
// for.
func withFilterStatistics(r *probe.Result) {
	r.PerLabel = []*float64{ptr(1.0), nil, ptr(0.5)}
	l := &r.Layers[0]
	l.PerLabel = r.PerLabel
	l.Sweep = []afcc.Stats{l.Stats}
	cluster := afcc.ClusterStability{Jaccard: 0.75, Identical: 0.5}
	l.Stability = &afcc.Stability{Runs: 2, Jaccard: ptr(0.5), Phi: ptr(-0.25), Cluster: &cluster, Filters: []afcc.FilterStability{
		{Index: 0, Labels: []afcc.LabelFrequency{{Label: 2, Share: 0.5}}, Jaccard: ptr(0.5), Phi: ptr(-0.25), Clusters: []afcc.ClusterStability{cluster}}, {Index: 1}, {Index: 2}}}
	l.Order = &afcc.LabelOrder{Seed: 1, Ascending: l.Stats, Permuted: []afcc.Stats{l.Stats}}
	l.Confusion = &afcc.ClusterConfusion{Pairs: 1, Errors: 4, Inside: 2, Share: ptr(0.5), Expected: ptr(1. / 3), Lift: ptr(1.5), WeightedLift: ptr(1.5)}
	l.Single = []probe.SingleFilter{{Accuracy: ptr(0.5), Own: ptr(0.75)}, {Accuracy: ptr(0.0)}, {}}
	l.Top = [][]probe.TopSample{{{Sample: 3, ID: "cat/3.png", Label: 0, Activation: 1.5}}, {}, nil}
}

func fits(t *testing.T, doc map[string]any, types map[string]any) {
	t.Helper()
	for name, d := range doc["$defs"].(map[string]any) {
		def := d.(map[string]any)
		if def["description"] == nil {
			t.Errorf("%s: no description", name)
		}
		v, ok := types[name]
		if ok != (def["type"] == "object") {
			t.Errorf("%s: in the schema as %v, among the types %v", name, def["type"], ok)
		}
		if !ok {
			continue
		}
		props := def["properties"].(map[string]any)
		required, _ := def["required"].([]any)
		fields := jsonFields(reflect.TypeOf(v))
		for key, p := range props {
			p := p.(map[string]any)
			if s, _ := p["description"].(string); len(s) < 8 {
				t.Errorf("%s/%s: description %q", name, key, s)
			}
			f, ok := fields[key]
			if !ok {
				t.Errorf("%s/%s: no field of %T", name, key, v)
				continue
			}
			if must := slices.Contains(required, any(key)); must == f.optional {
				t.Errorf("%s/%s: required is %v, may be left out %v", name, key, must, f.optional)
			}
			if may := nullable(doc, p); f.typ.Kind() == reflect.Pointer && !f.optional && !may {
				t.Errorf("%s/%s: may be null, the schema says it may not", name, key)
			}
		}
		for key := range fields {
			if props[key] == nil {
				t.Errorf("%s: the schema lacks %q of %T", name, key, v)
			}
		}
		if def["additionalProperties"] != false {
			t.Errorf("%s: allows unknown properties", name)
		}
	}
	for name := range types {
		if doc["$defs"].(map[string]any)[name] == nil {
			t.Errorf("the schema lacks %s", name)
		}
	}
}

type jsonField struct {
	typ      reflect.Type
	optional bool
}

// jsonFields returns the fields of a struct as JSON has them, those of embedded
// ones included.
func jsonFields(t reflect.Type) map[string]jsonField {
	fields := map[string]jsonField{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			for key, x := range jsonFields(inner) {
				if _, outer := fields[key]; !outer {
					fields[key] = x
				}
			}
		case name != "-" && name != "":
			fields[name] = jsonField{f.Type, strings.Contains(rest, "omit")}
		}
	}
	return fields
}

// nullable tells whether a schema allows null.
func nullable(doc, p map[string]any) bool {
	switch typ := p["type"].(type) {
	case string:
		return typ == "null"
	case []any:
		return slices.Contains(typ, any("null"))
	}
	if ref, ok := p["$ref"].(string); ok {
		return nullable(doc, doc["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any))
	}
	choices, _ := p["anyOf"].([]any)
	for _, q := range choices {
		if nullable(doc, q.(map[string]any)) {
			return true
		}
	}
	return false
}
