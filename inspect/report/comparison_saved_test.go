package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
)

// What was written is read back, and is the same as itself.
func TestReadSaved(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSON(&b, NewModel(richModel(), Selection{Sort: ByMACs}, goldenFindings())); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSaved(&b, "m.json")
	if err != nil || s.Stats != nil {
		t.Fatalf("%v, %+v", err, s)
	}
	c := CompareChoice{Strict: true}
	r := NewCompared(NewComparedSide("m.json", s.Model.Model), NewComparedSide("rich", richModel()), c)
	r.SetDescription(CompareDescriptions(s.Model.Model, richModel()), c)
	if r.Judge(c); !r.Same || len(r.Besides) > 0 {
		t.Errorf("%s: %+v", r.Verdict, r.Description)
	}
	if err := WriteJSON(&b, goldenResult()); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSaved(&b, "s.json"); err != nil || s.Model != nil || s.Stats == nil {
		t.Errorf("%v, %+v", err, s)
	}
}

func TestReadSavedErrors(t *testing.T) {
	written := func(v any) string {
		var b bytes.Buffer
		if err := WriteJSON(&b, v); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for text, want := range map[string]string{
		"":      "f: neither an ONNX model nor a report that inspect has saved: unexpected end of JSON input at byte 0",
		"{":     "neither an ONNX model",
		"5":     "neither an ONNX model",
		" [{}]": "f: a list of models; ",
		"{}":    `f: not a report that can be compared (schema ""; `,
		`{"schema": "filterlens.stats/1", "data": 1}`:                                               "f: not a statistics file",
		`{"schema": "filterlens.inspect/1"}`:                                                        "f: not a whole report of inspect: it describes no model",
		`{"schema": "filterlens.inspect/1", "file": 5}`:                                             "f: not a whole report of inspect: ",
		`{"schema": "filterlens.inspect/1", "file": "x", "layers": [{"name": "a"}]}`:                "1 layers, of which its totals know 0",
		`{"schema": "filterlens.inspect/1", "file": "x", "totals": {"macs": -1}}`:                   "MACs of -1",
		`{"schema": "filterlens.inspect/1", "file": "x", "totals": {"parameters": -1}}`:             "a number of parameters of -1",
		`{"schema": "filterlens.inspect/1", "file": "x", "inputs": [{"name": "a", "shape": [{}]}]}`: "f: not a whole report of inspect: ",
		written(NewModel(goldenModel(), Selection{Top: 1}, nil)):                                    "f: holds 1 of 3 layers (--top 1); save the whole with inspect MODEL -o FILE.json",
		written(goldenEvaluations()):                                                                "not a report that can be compared",
	} {
		_, err := ReadSaved(strings.NewReader(text), "f")
		var se *SavedError
		if !errors.As(err, &se) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
}

// Whatever is read can be compared with itself and with a model, and be written.
func FuzzReadSaved(f *testing.F) {
	var b bytes.Buffer
	for _, m := range []*inspect.Model{goldenModel(), richModel()} {
		b.Reset()
		if err := WriteJSON(&b, NewModel(m, Selection{}, nil)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"schema": "filterlens.inspect/1", "file": "x", "layers": [{"name": "a", "in": null}, {"name": "a"}], "totals": {"layers": 2}, "inputs": [{}]}`))
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSaved(bytes.NewReader(b), "f")
		if err != nil || s.Model == nil {
			return
		}
		for _, other := range []*inspect.Model{s.Model.Model, richModel()} {
			c := CompareChoice{Strict: true}
			side := NewComparedSide("f", s.Model.Model)
			r := NewCompared(side, side, c)
			r.SetDescription(CompareDescriptions(s.Model.Model, other), c)
			r.Judge(c)
			if other == s.Model.Model && !r.Same {
				t.Errorf("it is not the same as itself: %s", r.Verdict)
			}
			var out bytes.Buffer
			if err := WriteJSON(&out, r); err != nil {
				t.Error(err)
			}
			if err := WriteText(&out, TextOptions{Width: 72}, FromCompared(r, CompareView{All: true})); err != nil {
				t.Error(err)
			}
		}
	})
}
