package report

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// matches against the same pattern as a regular expression.
func TestMatches(t *testing.T) {
	names := []string{"", "a", "ab", "aab", "aba", "features.10.weight", "/features/features.1/Conv", "*", "a*b", "xaxbx"}
	patterns := []string{"", "a", "*", "**", "a*", "*a", "*a*", "a*b", "a*a", "a*b*a", "features.*", "*/Conv", "features.1*", "a**b", "*a*b*"}
	for _, p := range patterns {
		re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*") + "$")
		for _, n := range names {
			if got, want := matches(p, n), re.MatchString(n); got != want {
				t.Errorf("%q matches %q: %v, want %v", p, n, got, want)
			}
		}
	}
}

func TestCompareChoice(t *testing.T) {
	all := Aspects()
	without := func(list ...string) (out []string) {
		for _, a := range all {
			if !slices.Contains(list, a) {
				out = append(out, a)
			}
		}
		return out
	}
	still := without(DataAspects()...)
	for _, c := range []struct {
		name           string
		choice         CompareChoice
		wanted, counts []string
	}{
		{"by default", CompareChoice{}, still, []string{AspectInterface, AspectStructure, AspectWeights, AspectFilters}},
		{"with data", CompareChoice{Data: true}, all, countedByDefault()},
		{"strict", CompareChoice{Strict: true, Data: true}, all, all},
		{"only", CompareChoice{Only: []string{AspectNames, "x"}}, []string{AspectNames}, []string{AspectNames}},
		{"only names of things", CompareChoice{Only: []string{"x*"}}, still, []string{AspectInterface, AspectStructure, AspectWeights, AspectFilters}},
		{"only what needs data, without", CompareChoice{Only: []string{AspectStatistics}}, nil, nil},
		{"only what needs data", CompareChoice{Only: []string{AspectStatistics}, Data: true}, []string{AspectStatistics}, []string{AspectStatistics}},
		{"ignored", CompareChoice{Ignore: []string{AspectWeights, AspectNames}, Strict: true}, without(append(DataAspects(), AspectWeights, AspectNames)...), without(append(DataAspects(), AspectWeights, AspectNames)...)},
	} {
		for what, f := range map[string]struct {
			of   func(string) bool
			want []string
		}{"wants": {c.choice.Wants, c.wanted}, "counts": {c.choice.Counts, c.counts}} {
			var got []string
			for _, a := range all {
				if f.of(a) {
					got = append(got, a)
				}
			}
			if !slices.Equal(got, f.want) {
				t.Errorf("%s: %s %q, want %q", c.name, what, got, f.want)
			}
		}
	}
	if (CompareChoice{Only: []string{AspectAnswers}, Data: true}).WantsModels() || !(CompareChoice{}).WantsModels() {
		t.Error("WantsModels")
	}
}

// Whatever is left out, the rest stays as it is, and nothing of what was left out is
// told.
func TestCompareChoiceLeaves(t *testing.T) {
	for i, c := range []struct {
		choice CompareChoice
		want   string // verdict
	}{
		{CompareChoice{Ignore: Aspects()}, "the same"},
		{CompareChoice{Only: []string{AspectWeights}}, "they differ: weights (4 tensors of 2 layers)"},
		{CompareChoice{Only: []string{AspectFilters}}, "they differ: filters (3 gone, 1 new, 1 moved)"},
		{CompareChoice{Only: []string{AspectInterface}}, `they differ: interface ("input" -> "image", type of "mask", "old" removed, 1 more)`},
		{CompareChoice{Only: []string{AspectInterface, "mask"}}, `they differ: interface (type of "mask")`},
		{CompareChoice{Only: []string{AspectMetadata, "filterlens.*"}}, "they differ: metadata (filterlens.prune)"},
		{CompareChoice{Only: []string{AspectNames}}, "they differ: names of 2 operators"},
		{CompareChoice{Only: []string{AspectStructure}}, "they differ: structure (operators: 2 changed, 1 moved, 1 added, 1 removed)"},
		{CompareChoice{Only: []string{"features.2"}}, "they differ: structure (operators: 1 changed), weights (2 tensors of 1 layer), filters (3 gone, 1 new, 1 moved)"},
		{CompareChoice{Only: []string{"features.2.bias"}}, "they differ: weights (1 tensor of 1 layer)"},
		{CompareChoice{Only: []string{"fc.weight"}}, "they differ: filters (another order in 1 layer)"},
		{CompareChoice{Only: []string{"fc2.weight", AspectWeights}}, "they differ: weights (1 tensor of 1 layer)"},
		{CompareChoice{Only: []string{"/features/features.0/Conv"}}, "the same within tolerance to 3 digits but for names of 1 operator, writing of 1 operator, types of 1 tensor"},
		{CompareChoice{Only: []string{"/features/features.0/Conv"}, Strict: true}, "they differ: names of 1 operator, writing of 1 operator, types of 1 tensor, weights (1 tensor of 1 layer)"},
		{CompareChoice{Only: []string{"/pool/*"}}, "they differ: structure (operators: 1 moved)"},
		{CompareChoice{Ignore: []string{AspectInterface, AspectStructure, "features.2", "fc*"}}, "the same within tolerance to 3 digits but for metadata (opset, producer, filterlens.prune), names of 2 operators, writing of 1 operator, types of 1 tensor"},
	} {
		r := goldenCompared(c.choice)
		if r.Verdict != c.want || r.Same != strings.HasPrefix(c.want, "the same") {
			t.Errorf("%d: %s, want %s", i, r.Verdict, c.want)
		}
		for _, n := range r.Delta.Nodes {
			if n.A != nil && n.B != nil && n.Filters != nil && !c.choice.Wants(AspectFilters) {
				t.Errorf("%d: filters of %s", i, n.A.Name)
			}
		}
	}
}

func TestUnmatched(t *testing.T) {
	m, err := openModel(t, filepath.Join("..", "..", "fixtures", "vgg16-glyphs20.onnx"), inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{
		"features.0": "", "features.*": "", "classifier.weight": "", "input": "", "logits": "", "filterlens.labels": "", "*": "", "/features/features.7/Conv": "", AspectWeights: "",
		"wieghts": "wieghts", "features.99": "features.99", "": "",
	} {
		if word == "" {
			continue
		}
		if got := (CompareChoice{Ignore: []string{word}}).Unmatched(m); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
		if got := (CompareChoice{Only: []string{AspectNames, word}}).Unmatched(m); got != want {
			t.Errorf("only %q: %q, want %q", word, got, want)
		}
	}
}

// Verdicts in which nothing counts, or one thing.
func TestVerdicts(t *testing.T) {
	a, _ := goldenSides()
	equal := func(agree int) *Compared {
		r := NewCompared(a, a, CompareChoice{})
		r.Answers = goldenAnswers()
		r.Answers.Agree = agree
		return r
	}
	for _, c := range []struct {
		r      *Compared
		choice CompareChoice
		want   string
	}{
		{equal(25), CompareChoice{Data: true, Only: []string{AspectAnswers}}, "the same answers"},
		{equal(22), CompareChoice{Data: true, Only: []string{AspectAnswers}}, "they differ: answers (to 3 of 30 samples)"},
		{equal(22), CompareChoice{Data: true, Ignore: []string{AspectAnswers}}, "the same"},
	} {
		if c.r.Judge(c.choice); c.r.Verdict != c.want {
			t.Errorf("%s, want %s", c.r.Verdict, c.want)
		}
	}
}

func TestCompareDescriptions(t *testing.T) {
	m := func() *inspect.Model {
		m := goldenModel()
		m.Layers = nil
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			l := goldenModel().Layers[0]
			l.Name = name
			m.Layers = append(m.Layers, l)
		}
		m.Layers[4].Op, m.Layers[4].Kernel = "Gemm", nil
		return m
	}
	kinds := func(d *DescriptionDelta) string {
		var words []string
		for _, l := range d.Layers {
			words = append(words, l.A+string(sign(l.Kind).Text)+l.B)
		}
		return strings.Join(words, " ")
	}
	for _, c := range []struct {
		name string
		edit func(m *inspect.Model)
		want string
	}{
		{"nothing", func(*inspect.Model) {}, "a=a b=b c=c d=d e=e"},
		{"renamed", func(m *inspect.Model) {
			for i := range m.Layers {
				m.Layers[i].Name += "2"
			}
		}, "a=a2 b=b2 c=c2 d=d2 e=e2"},
		{"one removed", func(m *inspect.Model) { m.Layers = slices.Delete(m.Layers, 1, 2) }, "a=a b- c=c d=d e=e"},
		{"one added", func(m *inspect.Model) {
			m.Layers = slices.Insert(m.Layers, 2, m.Layers[4])
			m.Layers[2].Name = "n"
		}, "a=a b=b +n c=c d=d e=e"},
		{"one replaced", func(m *inspect.Model) { m.Layers[1].Name, m.Layers[1].Op = "n", "MatMul" }, "a=a b- +n c=c d=d e=e"},
		{"strides", func(m *inspect.Model) { m.Layers[2].Strides = []int64{1, 1} }, "a=a b=b c~c d=d e=e"},
		{"renamed, and the kernel of the first", func(m *inspect.Model) {
			for i := range m.Layers {
				m.Layers[i].Name += "2"
			}
			m.Layers[0].Kernel = []int64{5, 5}
		}, "a~a2 b=b2 c=c2 d=d2 e=e2"},
		{"order", func(m *inspect.Model) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }, "a=a b=b c=c d=d e=e"},
		{"another type", func(m *inspect.Model) { m.Layers[0].WeightBytes /= 2 }, "a=a b=b c=c d=d e=e"},
		{"none", func(m *inspect.Model) { m.Layers = nil }, "a- b- c- d- e-"},
	} {
		a, b := m(), m()
		c.edit(b)
		d := CompareDescriptions(a, b)
		if got := kinds(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		back := CompareDescriptions(b, a)
		if len(back.Layers) != len(d.Layers) {
			t.Errorf("%s: %s, and back %s", c.name, kinds(d), kinds(back))
		}
	}
	// Layers that share a name are paired in order.
	a, b := m(), m()
	for i := range 4 {
		a.Layers[i].Name, b.Layers[i].Name = "x", "x"
	}
	if got := kinds(CompareDescriptions(a, b)); got != "x=x x=x x=x x=x e=e" {
		t.Error(got)
	}
}

// A delta of two real models without anything left out is told whole.
func TestComparedOfModels(t *testing.T) {
	open := func(name string) *inspect.Model {
		m, err := openModel(t, filepath.Join("..", "..", "fixtures", name), inspect.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := open("vgg16-glyphs20.onnx"), open("efficientnet-b0-glyphs20.onnx")
	d, err := delta.Compare(context.Background(), a, b, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	was := d.Totals
	r := NewCompared(NewComparedSide("a", a), NewComparedSide("b", b), CompareChoice{})
	r.SetDelta(d, CompareChoice{})
	if r.Judge(CompareChoice{}); r.Delta.Totals != was || r.Same {
		t.Errorf("%+v, was %+v", r.Delta.Totals, was)
	}
	s, _ := compiled(t, "compare")
	if err := s.Validate(plain(t, r)); err != nil {
		t.Error(err)
	}
}
