package report

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"image"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

//go:embed assets/compared.tmpl
var comparedTemplate string

//go:embed assets/compared.css
var comparedCSS string

//go:embed assets/compared.js
var comparedJS string

// ComparedPictures are small images of samples by their number in the data set, as
// PNG or JPEG.
type ComparedPictures map[int][]byte

// NewComparedPictures reads the samples that two models answer differently and
// that a page shows: maxThumbnails at most, those that both are surest of. image
// returns a sample by its number, as dataset.Set.Image does, and must be safe for
// concurrent use; a sample that has no image goes without. The error is the
// context's.
func NewComparedPictures(ctx context.Context, a *probe.Answers, image func(sample int) (image.Image, error)) (ComparedPictures, error) {
	flips := surestFlips(a)
	flips = flips[:min(len(flips), maxThumbnails)]
	thumbs := make([][]byte, len(flips))
	var g errgroup.Group
	g.SetLimit(max(1, runtime.GOMAXPROCS(0)))
	for i := range flips {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if m, err := image(flips[i].Sample); err == nil {
				thumbs[i] = thumbnail(m)
			}
			return nil
		})
	}
	g.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := make(ComparedPictures)
	for i, b := range thumbs {
		if b != nil {
			p[flips[i].Sample] = b
		}
	}
	return p, nil
}

// WriteComparedHTML writes what differs between two models as one page in the
// manner of WriteHTML: the graph as a review with the operators of A left and
// those of B right, what became of the filters of each layer, and, as far as r has
// them, answers, similarity of layers, and statistics. pics, if any, are the images
// of samples that both answer differently.
//
// The page is bounded: maxReviewRows operators, maxHTMLRows rows of any other
// table, maxPageFilters filters, maxPageTaps layers on each side of the heat map
// and maxThumbnails pictures. Where something is left out a note says how much.
func WriteComparedHTML(w io.Writer, r *Compared, pics ComparedPictures) error {
	c, err := newHTMLCompared(r, pics)
	if err != nil {
		return err
	}
	p := htmlPage{Title: c.Title, Compared: c}
	return p.write(w)
}

// A htmlCompared is the page of two models.
type htmlCompared struct {
	Title         string
	A, B          htmlComparedSide
	Verdict, Tone string
	Aspects       []htmlAspect
	Left          []string
	Facts         []htmlPairFact
	Warnings      []string
	Tiles         []htmlTile
	Described     []htmlSection
	Review        *htmlReview
	Weights       *htmlGrid
	WeightNotes   []string
	Filters       *htmlFilterMaps
	Answers       *htmlAnswers
	Likeness      *htmlLikeness
	Statistics    *htmlComparedStats
	Definitions   []string
}

type htmlComparedSide struct{ Name, Path string }

// A htmlAspect says whether one aspect differs; Link leads to its section.
type htmlAspect struct{ Name, State, Sign, Class, Link string }

// A htmlPairFact is a fact of both models, marked where it differs.
type htmlPairFact struct {
	Name, A, B, Note string
	Differs          bool
}

// A htmlGrid is a sortable table with bars and what can be pressed in its cells.
type htmlGrid struct {
	// Class names it, What is what a row is.
	Class, What string
	Heads       []htmlGridHead
	Rows        [][]htmlGridCell
	// Searched asks for a search box, Choices for a list of kinds to show: cells
	// have their kind in the row's first cell.
	Searched bool
	Choices  []htmlChoice
	Caption  string
}

type htmlChoice struct{ Value, Text string }

type htmlGridHead struct {
	Title, Tip string
	Right      bool
	// Sorted is "ascending" or "descending" in the column that the rows are in the
	// order of.
	Sorted string
}

// A htmlGridCell sorts by Sort when Sorted, else by its text.
type htmlGridCell struct {
	Text, Tip, Class, Sort string
	Sorted                 bool
	// Width is the length of a bar behind the text, Minus and Plus those of a bar
	// from the middle, in per cent of the cell.
	Width, Minus, Plus int
	// Go is the operator that the cell leads to, Sample the sample whose picture it
	// shows.
	Go, Sample *int
	// List holds chips.
	List []htmlChip
}

type htmlChip struct{ Text, Note string }

// leftOutRows cuts rows to maxHTMLRows and says so.
func leftOutRows[T any](rows []T, notes []string) ([]T, []string) {
	if n := len(rows) - maxHTMLRows; n > 0 {
		return rows[:maxHTMLRows], append(notes, leftOut(n, "row"))
	}
	return rows, notes
}

func textCell(s string) htmlGridCell { return htmlGridCell{Text: s} }

// gridNumber is a cell of a number that may be unknown.
func gridNumber[T int | int64 | float64](v *T, text func(T) string) htmlGridCell {
	if v == nil {
		return htmlGridCell{Text: "-", Class: "num unknown"}
	}
	f := float64(*v)
	if f != f {
		return htmlGridCell{Text: "-", Class: "num unknown"}
	}
	return htmlGridCell{Text: text(*v), Class: "num", Sort: strconv.FormatFloat(f, 'g', -1, 64), Sorted: true}
}

func gridCount[T int | int64](n T) htmlGridCell {
	return gridNumber(&n, func(v T) string { return grouped(int64(v)) })
}

func fourDigits(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func threeDecimals(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// cosineText writes a cosine such that one that is nearly 1 does not look like 1.
func cosineText(v float64) string {
	switch d := 1 - v; {
	case d <= 1e-9 && d >= -1e-9:
		return "1"
	case d > 0 && d < 1e-4:
		return "1 - " + strconv.FormatFloat(d, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

func shareText(v float64) string {
	switch {
	case v == 0, v == 1, math.Abs(v) >= 0.001 && v <= 0.9995:
		return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
	case v > 0.9995:
		return "> 99.9 %"
	}
	return strconv.FormatFloat(100*v, 'g', 2, 64) + " %"
}

// distanceWidth is the length of a bar of a relative distance, on a logarithmic
// scale from 1e-6 to 1.
func distanceWidth(v *float64) int {
	if v == nil || !(*v > 0) {
		return 0
	}
	return int(math.Round(min(100, max(2, 100*(math.Log10(*v)+6)/6))))
}

const distanceScale = "bars are on a logarithmic scale, empty at 1e-6 and full at 1"

func newHTMLCompared(r *Compared, pics ComparedPictures) (*htmlCompared, error) {
	c := &htmlCompared{A: comparedSide(r.A), B: comparedSide(r.B), Warnings: printables(r.Warnings), Definitions: printables(r.Definitions)}
	c.Title = c.A.Name + " and " + c.B.Name
	// A sentence begins with a capital.
	if v := shown(r.Verdict); v != "" {
		c.Verdict = strings.ToUpper(v[:1]) + v[1:]
	}
	c.Tone = "differ"
	if r.Same {
		c.Tone = "same"
	}
	c.Aspects = aspects(r)
	for _, list := range []struct {
		what  string
		names []string
	}{{"only compared", r.Only}, {"left out", r.Ignored}} {
		if len(list.names) > 0 {
			c.Left = append(c.Left, list.what+": "+strings.Join(shownAll(list.names), ", "))
		}
	}
	c.Facts = pairFacts(r)
	if d := r.Description; d != nil {
		c.Described = described(d)
	}
	var err error
	if d := r.Delta; d != nil {
		c.Tiles = deltaTiles(d)
		if c.Review, err = newReview(d); err != nil {
			return nil, err
		}
		c.Weights, c.WeightNotes = weightGrid(d, c.Review)
		if c.Filters, err = newFilterMaps(d); err != nil {
			return nil, err
		}
	}
	if r.Answers != nil {
		if c.Answers, err = newAnswers(r, pics); err != nil {
			return nil, err
		}
	}
	if r.Likeness != nil {
		if c.Likeness, err = newLikeness(r.Likeness); err != nil {
			return nil, err
		}
	}
	if r.Statistics != nil {
		if c.Statistics, err = newComparedStats(r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func shownAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = shown(s)
	}
	return out
}

func comparedSide(s ComparedSide) htmlComparedSide {
	return htmlComparedSide{Name: firstChars(shown(filepath.Base(s.File)), 100), Path: shown(s.File)}
}

// aspects says of each aspect whether it differs, and where the page tells it.
func aspects(r *Compared) []htmlAspect {
	links := map[string]string{AspectMetadata: "facts", AspectInterface: "facts", AspectWeights: "weights", AspectFilters: "filters",
		AspectAnswers: "answers", AspectActivations: "likeness", AspectStatistics: "statistics"}
	there := map[string]bool{AspectWeights: r.Delta != nil, AspectFilters: r.Delta != nil, AspectNames: r.Delta != nil,
		AspectAnswers: r.Answers != nil, AspectActivations: r.Likeness != nil, AspectStatistics: r.Statistics != nil}
	only, _ := split(r.Only)
	var list []htmlAspect
	for _, name := range Aspects() {
		compared, ok := there[name]
		if !ok {
			compared = r.Delta != nil || r.Description != nil
		}
		h := htmlAspect{Name: name, State: "same", Sign: "=", Class: "equal", Link: "#" + cmp.Or(links[name], "graph")}
		switch {
		case slices.Contains(r.Differ, name):
			h.State, h.Sign, h.Class = "differs", "\u2260", "differ"
		case slices.Contains(r.Besides, name):
			h.State, h.Sign, h.Class = "differs, does not count", "\u2260", "besides"
		case slices.Contains(r.Ignored, name), len(only) > 0 && !slices.Contains(only, name):
			h.State, h.Sign, h.Class, h.Link = "left out", "\u2013", "none", ""
		case !compared:
			h.State, h.Sign, h.Class, h.Link = "not compared", "\u2013", "none", ""
		}
		list = append(list, h)
	}
	return list
}

// pairFacts are the facts of both models in rows.
func pairFacts(r *Compared) []htmlPairFact {
	var list []htmlPairFact
	add := func(name, a, b, note string) {
		list = append(list, htmlPairFact{Name: name, A: cmp.Or(a, "-"), B: cmp.Or(b, "-"), Note: note, Differs: a != b})
	}
	list = append(list, htmlPairFact{Name: "file", A: shown(r.A.File), B: shown(r.B.File)})
	saved := func(s ComparedSide) string {
		if s.Saved == "" {
			return ""
		}
		return "report of " + shown(cmp.Or(s.Model, "a model")) + " (" + shown(s.Saved) + ")"
	}
	if r.A.Saved != "" || r.B.Saved != "" {
		list = append(list, htmlPairFact{Name: "saved", A: cmp.Or(saved(r.A), "a model"), B: cmp.Or(saved(r.B), "a model")})
	}
	number := func(name string, a, b *int64, cell func(int64) Cell) {
		if a == nil && b == nil {
			return
		}
		note := ""
		if a != nil && b != nil && *a != *b && *a > 0 {
			note = signedShare(float64(*b)/float64(*a) - 1)
		}
		ta, tb := optional(a, cell, absent).Text, optional(b, cell, absent).Text
		f := htmlPairFact{Name: name, A: ta, B: tb, Note: note, Differs: a != nil && b != nil && *a != *b}
		// Numbers that look the same when rounded are written out.
		if f.Differs && ta == tb {
			f.A, f.B = grouped(*a), grouped(*b)
		}
		list = append(list, f)
	}
	number("size", r.A.Bytes, r.B.Bytes, Bytes)
	number("layers", wide(r.A.Layers), wide(r.B.Layers), Count)
	number("parameters", r.A.Parameters, r.B.Parameters, Scaled)
	number("MACs", r.A.MACs, r.B.MACs, Scaled)
	if d := r.Delta; d != nil {
		values := func(what string, pairs []delta.ValueDelta) {
			for i, v := range pairs {
				if i == 8 {
					list = append(list, htmlPairFact{Name: what, A: "and " + plural(len(pairs)-i, "more "+what)})
					break
				}
				add(what, valueText(v.A), valueText(v.B), "")
			}
		}
		values("input", d.Inputs)
		values("output", d.Outputs)
		for i, ch := range d.Model {
			if i == 100 {
				list = append(list, htmlPairFact{Name: "metadata", A: "and " + plural(len(d.Model)-i, "more difference")})
				break
			}
			name := strings.ReplaceAll(ch.What, "_", " ")
			if ch.Name != "" {
				name += " " + shown(ch.Name)
			}
			add(name, shown(ch.From), shown(ch.To), "")
		}
	}
	if d := r.Data; d != nil {
		list = append(list, htmlPairFact{Name: "data", A: shown(d.Path), B: shown(d.Path), Note: shown(d.Split)})
		add("preprocessing", shown(d.PreprocessA), shown(d.PreprocessB), "")
		ran := shown(runOn(d.Engine, d.EngineVersion, d.Provider, nil, nil))
		list = append(list, htmlPairFact{Name: "run by", A: ran, B: ran})
	}
	return list
}

func wide(n *int) *int64 {
	if n == nil {
		return nil
	}
	return ptrTo(int64(*n))
}

func signedShare(v float64) string {
	if v > 0 && !math.IsInf(v, 0) && v >= 9.995 {
		return "x " + strconv.FormatFloat(v+1, 'g', 3, 64)
	}
	if math.Abs(v) < 5e-5 {
		return fmt.Sprintf("%+.2g %%", 100*v)
	}
	return fmt.Sprintf("%+.2f %%", 100*v)
}

func valueText(v *inspect.Value) string {
	if v == nil {
		return ""
	}
	return shown(v.Name) + ": " + cmp.Or(shown(v.DType), "unknown type") + " " + shown(v.Shape.String())
}

func deltaTiles(d *delta.Delta) []htmlTile {
	t := d.Totals
	tile := func(label string, n int, note string) htmlTile {
		return htmlTile{Label: label, Value: grouped(int64(n)), Note: note}
	}
	tiles := []htmlTile{
		tile("operators", t.Kept+t.Renamed+t.Moved+t.Changed+t.Added+t.Removed, grouped(int64(t.Kept+t.Renamed))+" the same"),
		tile("changed", t.Changed, "operators"),
		{Label: "added, removed", Value: "+" + grouped(int64(t.Added)) + " -" + grouped(int64(t.Removed)), Note: "in B, A only"},
		tile("moved", t.Moved, "the same elsewhere"),
		tile("tensors", t.TensorsEqual+t.TensorsWithin+t.TensorsDiffer+t.TensorsNotRead, fmt.Sprintf("%s differ, %s within", grouped(int64(t.TensorsDiffer)), grouped(int64(t.TensorsWithin)))),
	}
	if t.Elements > 0 {
		tiles = append(tiles, htmlTile{Label: "numbers changed", Value: shareText(float64(t.ElementsChanged) / float64(t.Elements)), Note: Scaled(t.ElementsChanged).Text + " of " + Scaled(t.Elements).Text})
	}
	if t.Digits != nil {
		tiles = append(tiles, tile("digits", *t.Digits, "the same, at least"))
	}
	return tiles
}

// described shows what saved reports tell.
func described(d *DescriptionDelta) []htmlSection {
	sections := []htmlSection{}
	if len(d.Changes) > 0 {
		t := &htmlTable{Heads: []htmlHead{{"fact", false}, {"A", false}, {"B", false}}, Long: len(d.Changes) > 20}
		for _, ch := range d.Changes {
			t.Rows = append(t.Rows, []htmlCell{{Text: shown(strings.TrimSpace(strings.ReplaceAll(ch.What, "_", " ") + " " + ch.Name))}, {Text: shown(ch.From), Class: "removed"}, {Text: shown(ch.To), Class: "added"}})
		}
		s := htmlSection{Title: "What the reports tell", Table: t}
		t.Rows, s.Notes = leftOutRows(t.Rows, s.Notes)
		sections = append(sections, s)
	}
	t := &htmlTable{Heads: []htmlHead{{"", false}, {"layer in A", false}, {"layer in B", false}, {"operator", false}, {"changes", false}}, Long: len(d.Layers) > 20}
	same := 0
	for _, l := range d.Layers {
		if l.Kind == delta.Kept {
			same++
			continue
		}
		var changes []string
		for _, ch := range l.Changes {
			changes = append(changes, changeText(ch))
		}
		sign := signOf(l.Kind)
		t.Rows = append(t.Rows, []htmlCell{{Text: sign.text, Class: sign.class}, {Text: shown(l.A)}, {Text: shown(l.B)}, {Text: shown(l.Op)}, {Text: shown(strings.Join(changes, "; "))}})
	}
	s := htmlSection{Title: "Layers by their description"}
	if len(t.Rows) > 0 {
		t.Rows, s.Notes = leftOutRows(t.Rows, s.Notes)
		s.Table = t
	}
	s.Notes = append(s.Notes, plural(same, "layer")+" described alike; a saved report holds no weights")
	return append(sections, s)
}

// changeText writes a change in one line.
func changeText(ch delta.Change) string {
	s := strings.ReplaceAll(ch.What, "_", " ")
	if ch.Name != "" {
		s += " " + ch.Name
	}
	switch {
	case ch.From != "" && ch.To != "":
		s += ": " + ch.From + " \u2192 " + ch.To
	case ch.From != "":
		s += ": " + ch.From + " gone"
	case ch.To != "":
		s += ": " + ch.To + " new"
	}
	return s
}
