package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/report/browsertest"
)

// operators are nodes of a delta: "a=b" for a pair with its places in A and B,
// "a" and "=b" for those of one model only, with "m" at the end for a moved one.
func operators(specs ...string) (nodes []delta.NodeDelta) {
	for _, s := range specs {
		n := delta.NodeDelta{Kind: delta.Kept}
		s, moved := strings.CutSuffix(s, "m")
		a, b, _ := strings.Cut(s, "=")
		place := func(p string) *delta.Node {
			if p == "" {
				return nil
			}
			x := &delta.Node{Name: s, Op: "Relu"}
			fmt.Sscan(p, &x.Index)
			return x
		}
		n.A, n.B, n.Moved = place(a), place(b), moved
		switch {
		case n.A == nil:
			n.Kind = delta.Added
		case n.B == nil:
			n.Kind = delta.Removed
		case moved:
			n.Kind = delta.Moved
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func TestReviewOrder(t *testing.T) {
	for _, c := range []struct{ name, nodes, want string }{
		{"nothing", "", ""},
		{"the same", "0=0 1=1", "0=0 1=1"},
		{"added at the front", "0=1 1=2 =0", "=0 0=1 1=2"},
		{"added at the end", "0=0 =1 =2", "0=0 =1 =2"},
		{"added in between, listed last", "0=0 1=3 =1 =2", "0=0 =1 =2 1=3"},
		{"listed in place", "0=0 =1 =2 1=3", "0=0 =1 =2 1=3"},
		{"removed before added", "0=0 1 2=2 =1", "0=0 1 =1 2=2"},
		{"removed before added, listed in place", "0=0 =1 1 2=2", "0=0 1 =1 2=2"},
		{"removed before added at the front", "0 1=1 =0", "0 =0 1=1"},
		{"what moved is no place", "0=0 1=5m 2=1 3=2 =3 4=4", "0=0 1=5m 2=1 3=2 =3 4=4"},
		{"nothing in common", "0 1 =0 =1", "0 1 =0 =1"},
		{"only added", "=1 =0", "=0 =1"},
	} {
		nodes := operators(strings.Fields(c.nodes)...)
		var got []string
		for _, i := range reviewOrder(nodes) {
			n := nodes[i]
			s := n.A
			if s == nil {
				s = n.B
			}
			name := s.Name
			if n.Moved {
				name += "m"
			}
			got = append(got, name)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

// folds shows a review as words: a number for each run that is folded, = for an
// operator in sight that did not change, ~ for one that did.
func folds(t *testing.T, kinds string) string {
	t.Helper()
	d := &delta.Delta{}
	for i, k := range kinds {
		n := operators(fmt.Sprintf("%d=%d", i, i))[0]
		if k == '~' {
			n.Kind = delta.Changed
		}
		d.Nodes = append(d.Nodes, n)
	}
	h, err := newReview(d)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	rows := 0
	for _, g := range h.Groups {
		if rows += len(g.Rows); g.Folded {
			fmt.Fprint(&b, len(g.Rows))
			continue
		}
		for _, r := range g.Rows {
			b.WriteString(r.Sign)
			if r.Sign == "" {
				b.WriteByte('=')
			}
		}
	}
	if rows != len(kinds) {
		t.Errorf("%q: %d rows", kinds, rows)
	}
	return b.String()
}

func TestReviewFolds(t *testing.T) {
	for kinds, want := range map[string]string{
		"": "", "=": "=", "==": "==", "===": "3", "~": "~", "~==~": "~==~",
		"~====~":  "~====~",
		"~=====~": "~=3=~",
		"===~":    "===~", "====~": "3=~", "~====": "~=3", "~======~==~=====": "~=4=~==~=4",
	} {
		if got := folds(t, kinds); got != want {
			t.Errorf("%q is folded as %q, want %q", kinds, got, want)
		}
	}
}

// Of too many operators those that did not change are left out, and a note says
// how many.
func TestReviewBound(t *testing.T) {
	d := &delta.Delta{}
	for i := range maxReviewRows + 500 {
		n := operators(fmt.Sprintf("%d=%d", i, i))[0]
		if i%10 == 0 {
			n.Kind = delta.Changed
		}
		d.Nodes = append(d.Nodes, n)
	}
	h, err := newReview(d)
	if err != nil {
		t.Fatal(err)
	}
	shown, folded := 0, 0
	for _, g := range h.Groups {
		shown += len(g.Rows)
		if g.Folded {
			folded++
			if g.Note == "" || len(g.Rows) > 0 {
				t.Fatalf("a run of many: %+v", g)
			}
		}
	}
	if shown > maxReviewRows || folded < 600 || len(h.Notes) != 0 {
		t.Errorf("%d rows, %d runs, notes %q", shown, folded, h.Notes)
	}
	for i := range d.Nodes {
		d.Nodes[i].Kind = delta.Changed
	}
	if h, err = newReview(d); err != nil {
		t.Fatal(err)
	}
	if len(h.Groups[0].Rows) != maxReviewRows || len(h.Notes) != 1 || !strings.HasPrefix(h.Notes[0], "500 operators left out") {
		t.Errorf("%d rows, notes %q", len(h.Groups[0].Rows), h.Notes)
	}
}

// Every table, list and map has its bound, and a note where it is reached.
func TestComparedBounds(t *testing.T) {
	r := &Compared{}
	r.Answers = &probe.Answers{Samples: 4000, PerLabel: make([]probe.LabelAnswers, maxHTMLRows+3)}
	for i := range maxPageFlips + 7 {
		r.Answers.Flips = append(r.Answers.Flips, probe.Flip{Sample: i, B: 1, MarginA: ptrTo(float64(i) / 1e4)})
	}
	a, err := newAnswers(r, ComparedPictures{3: {1}})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(a.Notes, "\n")
	if len(a.Labels.Rows) != maxHTMLRows || len(a.Flips.Rows) != maxPageFlips || !strings.Contains(notes, "3 rows left out") || !strings.Contains(notes, "7 flips left out") || !strings.Contains(notes, "pictures of 1 of 2,007 flips") {
		t.Errorf("%d labels, %d flips, notes\n%s", len(a.Labels.Rows), len(a.Flips.Rows), notes)
	}
	// Those that both are surest of come first.
	if got := a.Flips.Rows[0][7].Text; got != "2,006" {
		t.Errorf("the first flip is sample %s", got)
	}
	l := &likeness.Likeness{A: make([]likeness.Tap, maxPageTaps+2), B: make([]likeness.Tap, 2)}
	for range l.A {
		l.CKA = append(l.CKA, []*float64{ptrTo(1.0), nil})
	}
	h, err := newLikeness(l)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(h.Data), "[1,null]"); n != maxPageTaps || len(h.Notes) != 1 || !strings.Contains(h.Notes[0], "400 of 402 layers of A and 2 of 2 of B") {
		t.Errorf("%d rows, notes %q", n, h.Notes)
	}
	d := &delta.Delta{Similarity: 0.5}
	for _, count := range []int{10, maxPageFilters - 9} {
		n := operators("0=0")[0]
		f := &delta.FilterDelta{CountA: count, CountB: count}
		for i := range count {
			f.Filters = append(f.Filters, delta.Filter{Kind: delta.FilterMoved, From: &i, To: &i})
		}
		n.Filters = f
		d.Nodes = append(d.Nodes, n)
	}
	m, err := newFilterMaps(d)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 2 || strings.Count(string(m.Data), `"cut":true`) != 1 || !strings.Contains(m.Notes[0], "299,991 filters left out") {
		t.Errorf("%d layers, %d bytes, notes %q", len(m.Layers), len(m.Data), m.Notes)
	}
}

// Of many label sets those that changed most are listed, in the order of layers.
func TestLabelSetBound(t *testing.T) {
	s := &StatisticsDelta{}
	for range 3 {
		var l StatisticsPair
		for f := range 2000 {
			l.Differ = append(l.Differ, probe.FilterDifference{Filter: f, Gained: make([]probe.LabelChange, 1+f/100), Lost: make([]probe.LabelChange, 100)})
		}
		s.Layers = append(s.Layers, l)
	}
	g, notes := labelSetGrid(s, nil, nil)
	chips, last := 0, ""
	for _, r := range g.Rows {
		chips += len(r[2].List) + len(r[3].List)
		if len(r[2].List) > maxChips+1 || len(r[2].List) < 7 {
			t.Fatalf("filter %s has %d chips", r[1].Text, len(r[2].List))
		}
		last = r[1].Text
	}
	if chips > maxPageChips+2*len(g.Rows) || len(notes) != 1 || !strings.Contains(notes[0], fmt.Sprintf("%s filters left out", grouped(int64(6000-len(g.Rows))))) || last != "1,999" {
		t.Errorf("%d rows, %d chips, the last filter %s, notes %q", len(g.Rows), chips, last, notes)
	}
	s.Layers = s.Layers[:1]
	s.Layers[0].Differ = s.Layers[0].Differ[:10]
	if g, notes = labelSetGrid(s, nil, nil); len(g.Rows) != 10 || notes != nil || g.Rows[0][1].Text != "0" {
		t.Errorf("%d rows, notes %q", len(g.Rows), notes)
	}
}

func TestComparedPictures(t *testing.T) {
	a := &probe.Answers{}
	for i := range maxThumbnails + 10 {
		a.Flips = append(a.Flips, probe.Flip{Sample: i, MarginA: ptrTo(float64(i))})
	}
	read := func(s int) (image.Image, error) {
		if s == maxThumbnails {
			return nil, errors.New("broken")
		}
		return image.NewGray(image.Rect(0, 0, 4, 4)), nil
	}
	p, err := NewComparedPictures(t.Context(), a, read)
	if err != nil {
		t.Fatal(err)
	}
	if len(p) != maxThumbnails-1 || p[9] != nil || p[10] == nil || p[maxThumbnails] != nil {
		t.Errorf("%d pictures", len(p))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := NewComparedPictures(ctx, a, read); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// The page is one file that runs nothing but its own script, whatever names it
// shows, with all of its sections, with one, and with none.
func TestComparedHTML(t *testing.T) {
	hostile := browsertest.Hostile
	full := &Compared{A: ComparedSide{File: hostile}, B: ComparedSide{File: hostile, Saved: "inspect", Model: hostile, Parameters: ptrTo(int64(3))}, Verdict: hostile, Differ: []string{AspectAnswers}, Ignored: []string{hostile}, Warnings: []string{hostile}, Definitions: []string{hostile}}
	full.Data = &ComparedData{Path: hostile, Labels: []string{hostile, hostile}, Split: hostile, PreprocessA: hostile}
	n := operators("0=0")[0]
	n.A.Name, n.B.Name, n.A.Op, n.Kind = hostile, hostile+"2", hostile, delta.Changed
	n.Changes = []delta.Change{{What: "attribute", Name: hostile, From: hostile, To: hostile}}
	n.Tensors = []delta.TensorDelta{{What: "weight", A: &delta.Tensor{Name: hostile, DType: hostile}, B: &delta.Tensor{}, Agreement: delta.Incomplete, Note: hostile}}
	n.Filters = &delta.FilterDelta{Note: hostile}
	full.Delta = &delta.Delta{Nodes: []delta.NodeDelta{n}, Model: []delta.Change{{What: hostile, Name: hostile, From: hostile, To: hostile}}}
	full.Answers = &probe.Answers{Samples: 1, Flips: []probe.Flip{{ID: hostile, A: -1, B: 9}}, PerLabel: make([]probe.LabelAnswers, 2)}
	full.Likeness = &likeness.Likeness{A: []likeness.Tap{{Layer: hostile}}, B: []likeness.Tap{{Layer: hostile}}, CKA: [][]*float64{{nil}}, Debiased: [][]*float64{{nil}}, Layers: []likeness.Layer{{Note: hostile}, {A: 7, B: -1}}, Note: hostile, Parting: ptrTo(5)}
	full.Statistics = &StatisticsDelta{Otherwise: hostile, Layers: []StatisticsPair{{LayerDifferences: probe.LayerDifferences{Layer: hostile, Differ: []probe.FilterDifference{{Gained: []probe.LabelChange{{Label: 5}}}, {}}}, LayerB: hostile}}, Unpaired: []probe.Skip{{Layer: hostile, Reason: hostile}}}
	for name, r := range map[string]*Compared{"full": full, "nothing": {}, "empty": {Delta: &delta.Delta{}, Answers: &probe.Answers{}, Likeness: &likeness.Likeness{}, Statistics: &StatisticsDelta{}, Description: &DescriptionDelta{}}} {
		var b bytes.Buffer
		if err := WriteComparedHTML(&b, r, ComparedPictures{0: []byte(hostile)}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkPage(t, b.String())
		var again bytes.Buffer
		if err := WriteComparedHTML(&again, r, ComparedPictures{0: []byte(hostile)}); err != nil || !slices.Equal(b.Bytes(), again.Bytes()) {
			t.Errorf("%s: the page is another one the second time (%v)", name, err)
		}
	}
	if err := WriteComparedHTML(&fullWriter{}, full, nil); err == nil {
		t.Error("no error although nothing can be written")
	}
}

type fullWriter struct{}

func (*fullWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

// A tensor whose filters are all gone is not one whose shapes differ.
func TestNothingCompared(t *testing.T) {
	for _, c := range []struct {
		t    delta.TensorDelta
		want bool
	}{
		{delta.TensorDelta{Agreement: delta.Incomplete, Aligned: true, Note: "none of its filters lives on"}, true},
		{delta.TensorDelta{Agreement: delta.Incomplete, Note: "the shapes differ"}, false},
		{delta.TensorDelta{Agreement: delta.Equal, Aligned: true, Values: &delta.Values{Elements: 3}}, false},
	} {
		if got := nothingCompared(&c.t); got != c.want {
			t.Errorf("%+v: %v", c.t, got)
		}
	}
}
