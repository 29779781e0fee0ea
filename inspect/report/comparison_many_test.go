package report

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
)

// goldenModels are four models, of which one cannot be read and one has an operator
// whose multiply-accumulates are not known.
func goldenModels() *ComparedModels {
	r := &ComparedModels{Schema: ComparedModelsSchema, Definitions: []string{"MACs: multiply-accumulates of one sample"}}
	small := goldenModel()
	small.File, small.FileBytes, small.ExternalBytes = "other/small.onnx", 1_000_000, 0
	small.Totals = inspect.Totals{Layers: 2, Parameters: 250_000, MACs: ptr(int64(4_000_000))}
	copied := *small
	copied.File = "other/copy.onnx"
	r.Models = []ComparedModel{NewComparedModel("net.onnx", goldenModel()), NewComparedModel("no.onnx", nil), NewComparedModel(small.File, small), NewComparedModel(copied.File, &copied)}
	r.Models[1].Error = "not a readable ONNX model (byte 12): wire type 7"
	return r
}

// answeredModels were run besides: the small one best, its copy slower by chance.
func answeredModels() *ComparedModels {
	r := goldenModels()
	r.Data = &ModelsData{Path: "data", Format: "IDX", Labels: []string{"a", "b", "c"}, Split: "eval", Samples: 40, SHA256: "0123456789abcdef", Seed: 1,
		Engine: "onnxruntime", EngineVersion: "1.30.0", Provider: "cpu", Skipped: []dataset.Skipped{{Name: "x", Reason: "y"}}}
	e := func(correct int, median, low, high float64) probe.Evaluation {
		return probe.Evaluation{Samples: 40, Correct: correct, Top1: float64(correct) / 40, Latency: &probe.Timing{Batch: 1, Runs: 30, Median: median, Low: low, High: high}, Throughput: &probe.Timing{Batch: 10, Runs: 4, Median: median / 2}}
	}
	many := &probe.ManyAnswers{Evaluations: []probe.Evaluation{e(30, 9, 8, 10), e(36, 2, 1.5, 2.5), e(36, 2.25, 1.75, 2.5)},
		Agree: [][]int{{40, 29, 29}, {29, 40, 40}, {29, 40, 40}}, NLL: []*float64{ptr(0.75), ptr(0.25), nil}}
	many.Evaluations[0].Top5, many.Evaluations[0].Throughput = ptr(0.975), nil
	many.Evaluations[2].Unanswered, many.Evaluations[2].Nodes, many.Evaluations[2].Elsewhere, many.Evaluations[2].Changed = 1, map[string]int{"cpu": 3}, []string{"Shape (a)"}, ptr(0.5)
	r.SetAnswers(many, []string{"unit", "imagenet", "imagenet"}, []int{0, 2, 3})
	return r
}

func differentModels() *ComparedModels {
	r := goldenModels()
	r.Models[2].Difference = &ModelDifference{Matched: 10, Changed: 1, Added: 2, Removed: 3, Tensors: 4, NotCompared: 1, Elements: 1000, ElementsChanged: 457}
	r.Models[3].Difference = &ModelDifference{Same: true, Matched: 12, Digits: ptr(6), Elements: 1000, ElementsChanged: 900}
	return r
}

func TestComparedModels(t *testing.T) {
	plain, run := differentModels(), answeredModels()
	plain.Arrange("order", 0)
	run.Arrange("top1", 0)
	run.Warnings = []string{"the accuracy of net.onnx is at chance level"}
	for name, r := range map[string]*ComparedModels{"compare-models": plain, "compare-models-data": run} {
		var b bytes.Buffer
		doc := FromComparedModels(r, name == "compare-models-data")
		golden(t, name+".txt", &b, WriteText(&b, TextOptions{}, doc))
		golden(t, name+".72.txt", &b, WriteText(&b, TextOptions{Width: 72}, doc))
		golden(t, name+".csv", &b, WriteCSV(&b, doc))
		golden(t, name+".json", &b, WriteJSON(&b, r))
		if err := WriteDocumentsHTML(&b, doc); err != nil || !strings.Contains(b.String(), "small.onnx") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every column sorts both ways, and what is not known stands last, before what could
// not be read.
func TestArrange(t *testing.T) {
	files := func(r *ComparedModels) (list []string) {
		for _, m := range r.Models {
			list = append(list, strings.TrimSuffix(strings.TrimPrefix(m.File, "other/"), ".onnx"))
		}
		return list
	}
	for column, want := range map[string]string{
		"order": "net small copy no", "-order": "copy small net no", "file": "net copy small no", "-file": "small copy net no",
		"size": "small copy net no", "-size": "net small copy no", "parameters": "small copy net no", "macs": "small copy net no", "-macs": "net small copy no", "layers": "small copy net no",
		"top1": "small copy net no", "-top1": "net small copy no", "top5": "net small copy no", "-top5": "net small copy no",
		"nll": "small net copy no", "-nll": "net small copy no", "agreement": "small copy net no", "latency": "small copy net no", "-latency": "net copy small no",
		"throughput": "small copy net no", "-throughput": "copy small net no",
	} {
		r := answeredModels()
		r.Arrange(column, 0)
		if got := strings.Join(files(r), " "); got != want {
			t.Errorf("%s: %s, want %s", column, got, want)
		}
		for i, m := range r.Models {
			for j, o := range r.Models {
				v := r.Agreement[i][j]
				switch known := m.Answers != nil && o.Answers != nil; {
				case known != (v != nil):
					t.Errorf("%s: agreement of %s and %s: %v", column, m.File, o.File, v)
				case known && (m.File == "net.onnx") != (o.File == "net.onnx") && *v != 29./40, known && m.File == o.File && *v != 1:
					t.Errorf("%s: agreement of %s and %s: %v", column, m.File, o.File, *v)
				}
			}
		}
	}
	r := differentModels()
	r.Arrange("-changed", 2)
	if got := strings.Join(files(r), " "); got != "small copy no" || r.Given != 4 {
		t.Errorf("%s of %d", got, r.Given)
	}
	all := slices.Concat(ModelColumns(false), ModelColumns(true))
	for _, c := range modelColumns() {
		if !slices.Contains(all, c.name) {
			t.Errorf("%s is in no list of columns", c.name)
		}
	}
}

// The front against its definition, with times that noise blurs.
func TestFronts(t *testing.T) {
	for _, c := range []struct {
		models string // accuracy, latency (+-1), MACs
		want   string
	}{
		{"5 10 10", "LM"},
		{"5 10 10, 4 5 5", "LM LM"},
		{"5 10 10, 4 20 20", "LM -"},
		{"5 10 10, 5 10 10", "LM LM"},
		// A little slower, or faster, is nothing.
		{"5 10.5 10, 4 10 10", "LM -"},
		{"5 10 10, 5 10.5 10", "LM LM"},
		{"5 10 10, 5 12 10", "LM M"},
		{"5 10 12, 5 12 10", "L M"},
		{"3 1 9, 5 10 10, 4 5 11, 5 30 9", "L L L M"},
	} {
		r := &ComparedModels{}
		many := &probe.ManyAnswers{}
		var run []int
		for i, m := range strings.Split(c.models, ", ") {
			var correct int
			var ms float64
			var macs int64
			if _, err := fmt.Sscan(m, &correct, &ms, &macs); err != nil {
				t.Fatal(err)
			}
			r.Models = append(r.Models, ComparedModel{MACs: &macs})
			many.Evaluations = append(many.Evaluations, probe.Evaluation{Samples: 9, Correct: correct, Latency: &probe.Timing{Median: ms, Low: ms - 1, High: ms + 1}})
			run = append(run, i)
		}
		for range run {
			many.Agree = append(many.Agree, make([]int, len(run)))
			many.NLL = append(many.NLL, nil)
		}
		r.SetAnswers(many, make([]string, len(run)), run)
		var got []string
		for _, m := range r.Models {
			s := ""
			if m.Answers.FrontLatency {
				s += "L"
			}
			if m.Answers.FrontMACs {
				s += "M"
			}
			if s == "" {
				s = "-"
			}
			got = append(got, s)
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %s, want %s", c.models, g, c.want)
		}
	}
}

func TestModelDifferenceText(t *testing.T) {
	for want, d := range map[string]*ModelDifference{
		"is the first":            nil,
		"the same":                {Same: true, Matched: 5, Elements: 9},
		"the same to 3 digits":    {Same: true, Matched: 5, Digits: ptr(3), ElementsChanged: 1},
		"other inputs or outputs": {Matched: 5},
		"operators 1 changed, 2 added; 3 tensors of another shape; 1 tensor, 25.00 % of the weights": {Matched: 5, Changed: 1, Added: 2, NotCompared: 3, Tensors: 1, Elements: 4, ElementsChanged: 1},
		"another architecture: 3 of 240 operators match":                                             {Matched: 3, Removed: 237, Added: 30, Elements: 1, ElementsChanged: 1, Tensors: 1},
	} {
		if got := d.text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	node := func(changes ...string) delta.NodeDelta {
		n := delta.NodeDelta{A: &delta.Node{}, B: &delta.Node{}}
		for _, c := range changes {
			n.Changes = append(n.Changes, delta.Change{What: c})
		}
		return n
	}
	d := &delta.Delta{Nodes: []delta.NodeDelta{node(), node("weight", "bias"), node("weight", "attribute"), {A: &delta.Node{}, B: &delta.Node{}, Moved: true}, {A: &delta.Node{}}}, Totals: delta.Totals{Added: 7, Removed: 1, TensorsDiffer: 3}}
	if x := NewModelDifference(d); x.Matched != 4 || x.Changed != 2 || x.Added != 7 || x.Removed != 1 || x.Tensors != 3 {
		t.Errorf("%+v", x)
	}
	if v := (&ModelDifference{}).changedShare(); v != 0 || math.IsNaN(v) {
		t.Error(v)
	}
}

func TestCompareModelsSchema(t *testing.T) {
	t.Parallel()
	s, doc := compiled(t, "compare-models")
	fits(t, doc, map[string]any{"models": ComparedModels{}, "data": ModelsData{}, "model": ComparedModel{}, "difference": ModelDifference{}, "answers": ModelAnswers{}, "timing": probe.Timing{}, "skipped": dataset.Skipped{}})
	run := answeredModels()
	run.Models[0].ParametersUnknown = 2
	run.Arrange("top1", 0)
	run.Warnings = []string{"w"}
	for name, r := range map[string]*ComparedModels{"plain": differentModels(), "run": run, "none": {Schema: ComparedModelsSchema, Models: []ComparedModel{}, Definitions: []string{}}} {
		v := plain(t, r)
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		strict(t, name, s, doc, v)
	}
}
