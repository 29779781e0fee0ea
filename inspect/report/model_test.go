package report

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/filterlens/filterlens/inspect"
)

// On any terminal from 72 columns on, no line of a report on a model is longer.
func TestModelFitsTheTerminal(t *testing.T) {
	rich := NewModel(richModel(), Selection{}, goldenFindings())
	docs := map[string]Document{
		"rich":   FromModel(rich, LayerTable),
		"depth":  FromModel(NewModel(richModel(), Selection{Depth: 2}, nil), LayerTable),
		"rows":   FromSummaries(goldenSummaries(), false),
		"checks": FromSummaries(goldenSummaries(), true),
	}
	m, err := openModel(t, "../../fixtures/efficientnet-b0-bn-glyphs20.onnx", inspect.Options{Statistics: true})
	if err != nil {
		t.Fatal(err)
	}
	docs["efficientnet"] = FromModel(NewModel(m, Selection{}, nil), LayerTable)
	for name, d := range docs {
		for width := 72; width < 220; width += 7 {
			for l := range strings.Lines(text(t, TextOptions{Width: width}, d)) {
				if n := utf8.RuneCountInString(strings.TrimRight(l, "\n")); n > width {
					t.Errorf("%s, width %d: a line of %d: %q", name, width, n, l)
				}
			}
		}
	}
}

func TestSelection(t *testing.T) {
	layer := func(name, op, scope string, parameters int64, macs *int64, weights int64, out *int64) inspect.Layer {
		return inspect.Layer{Name: name, Op: op, Scope: scope, Parameters: parameters, MACs: macs, WeightBytes: weights, OutBytes: out, Weight: name + ".w"}
	}
	m := &inspect.Model{
		Layers: []inspect.Layer{
			layer("/a/a.0/Conv", "Conv", "", 10, ptr(int64(5)), 40, ptr(int64(100))),
			layer("/a/a.1/Conv", "Conv", "", 30, nil, 120, nil),
			layer("/b/Gemm", "Gemm", "", 20, ptr(int64(50)), 80, ptr(int64(1))),
			layer("inner", "MatMul", "loop/body", 30, ptr(int64(50)), 120, ptr(int64(0))),
		},
		Totals:  inspect.Totals{Layers: 4, Parameters: 90},
		Tensors: []inspect.TensorStats{{Name: "/a/a.0/Conv.w", Bytes: 40}, {Name: "/b/Gemm.w", Bytes: 80}, {Scope: "loop/body", Name: "inner.w", Bytes: 120}, {Name: "inner.w", Bytes: 7}, {Name: "else", Bytes: 9}},
	}
	for _, c := range []struct {
		name            string
		sel             Selection
		layers, tensors string
	}{
		{"all", Selection{}, "/a/a.0/Conv /a/a.1/Conv /b/Gemm inner", "/a/a.0/Conv.w /b/Gemm.w inner.w inner.w else"},
		{"parameters, ties in order", Selection{Top: 2}, "/a/a.1/Conv inner", "inner.w /b/Gemm.w"},
		{"macs, the unknown first", Selection{Sort: ByMACs}, "/a/a.1/Conv /b/Gemm inner /a/a.0/Conv", "/a/a.0/Conv.w /b/Gemm.w inner.w inner.w else"},
		{"memory", Selection{Sort: ByMemory, Top: 3}, "/a/a.1/Conv /a/a.0/Conv inner", "inner.w /b/Gemm.w /a/a.0/Conv.w"},
		{"the first", Selection{Sort: ByPosition, Top: 1}, "/a/a.0/Conv", "/a/a.0/Conv.w"},
		{"more than there are", Selection{Sort: ByPosition, Top: 9}, "/a/a.0/Conv /a/a.1/Conv /b/Gemm inner", "/a/a.0/Conv.w /b/Gemm.w inner.w inner.w else"},
		{"name", Selection{Filter: regexp.MustCompile(`a\.1`)}, "/a/a.1/Conv", ""},
		{"operator", Selection{Filter: regexp.MustCompile(`^Gemm$`)}, "/b/Gemm", "/b/Gemm.w"},
		{"scope", Selection{Filter: regexp.MustCompile(`^loop`)}, "inner", "inner.w inner.w"},
		{"a tensor alone", Selection{Filter: regexp.MustCompile(`^else$`)}, "", "else"},
		{"depth leaves the layers", Selection{Depth: 1, Top: 1}, "/a/a.0/Conv /a/a.1/Conv /b/Gemm inner", "inner.w"},
	} {
		r := NewModel(m, c.sel, nil)
		var layers, tensors []string
		for _, l := range r.Layers {
			layers = append(layers, l.Name)
		}
		for _, x := range r.Tensors {
			tensors = append(tensors, x.Name)
		}
		if got := strings.Join(layers, " "); got != c.layers {
			t.Errorf("%s: layers %q, want %q", c.name, got, c.layers)
		}
		if got := strings.Join(tensors, " "); got != c.tensors {
			t.Errorf("%s: tensors %q, want %q", c.name, got, c.tensors)
		}
		if r.Totals.Layers != 4 || r.Totals.Parameters != 90 || len(m.Layers) != 4 {
			t.Errorf("%s: the model has changed", c.name)
		}
	}
	want := []Group{
		{"a", Sum{Layers: 2, Parameters: 40, MACs: ptr(int64(5)), MACsUnknown: 1, WeightBytes: 160, OutBytes: ptr(int64(100)), OutBytesUnknown: 1}},
		{"loop.body", Sum{Layers: 1, Parameters: 30, MACs: ptr(int64(50)), WeightBytes: 120, OutBytes: ptr(int64(0))}},
		{"b", Sum{Layers: 1, Parameters: 20, MACs: ptr(int64(50)), WeightBytes: 80, OutBytes: ptr(int64(1))}},
	}
	got := NewModel(m, Selection{Depth: 2, Sort: ByParameters}, nil).Groups
	// a.0 and a.1 are two modules at depth 2.
	if len(got) != 4 || got[0].Name != "a.1" || got[3].Name != "a.0" {
		t.Errorf("depth 2: %+v", got)
	}
	got = NewModel(m, Selection{Depth: 1, Sort: ByParameters}, nil).Groups
	want[1].Name = "loop"
	if !slices.EqualFunc(got, want, equalGroups) {
		t.Errorf("depth 1: %+v, want %+v", got, want)
	}
}

func equalGroups(a, b Group) bool {
	same := func(p, q *int64) bool { return (p == nil) == (q == nil) && (p == nil || *p == *q) }
	ok := same(a.MACs, b.MACs) && same(a.OutBytes, b.OutBytes)
	a.MACs, b.MACs, a.OutBytes, b.OutBytes = nil, nil, nil, nil
	return ok && a == b
}

// Sums of what files claim stop at the largest number.
func TestPlus(t *testing.T) {
	const most = 1<<63 - 1
	for _, c := range [][3]int64{{1, 2, 3}, {most, 1, most}, {most, most, most}, {0, 0, 0}, {5, -2, 3}} {
		if got := plus(c[0], c[1]); got != c[2] {
			t.Errorf("%d + %d = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, c := range []struct {
		counts   []int64
		bar, raw string
	}{
		{nil, "", ""},
		{[]int64{0, 1, 1000, 500}, " ▁█▄", "0 1 1000 500"},
		{[]int64{7}, "█", "7"},
		{[]int64{0, 0}, "  ", "0 0"},
	} {
		if got := histogram(c.counts); got.Text != c.bar || got.Raw != c.raw {
			t.Errorf("%v: %q, %q", c.counts, got.Text, got.Raw)
		}
	}
	d := Document{Sections: []Section{{Table: &Table{Columns: []Column{{Title: "x"}}, Rows: [][]Cell{{histogram([]int64{1, 2, 0, 8})}}}}}}
	if got := text(t, TextOptions{ASCII: true}, d); got != "  x\n  .: @\n" {
		t.Errorf("in ASCII %q", got)
	}
}

func TestHiddenAndSparseColumns(t *testing.T) {
	d := Document{Sections: []Section{{Table: &Table{Main: true,
		Columns: []Column{{Title: "a", Key: "a"}, {Key: "b", Hidden: true}, {Title: "c", Key: "c", Sparse: true}, {Title: "d"}},
		Rows:    [][]Cell{{Words("1"), Words("2"), none, Words("4")}}}}}}
	if got := text(t, TextOptions{}, d); got != "  a  d\n  1  4\n" {
		t.Errorf("text %q", got)
	}
	var b strings.Builder
	if err := WriteCSV(&b, d); err != nil || b.String() != "a,b,c\n1,2,\n" {
		t.Errorf("CSV %q, %v", b.String(), err)
	}
}
