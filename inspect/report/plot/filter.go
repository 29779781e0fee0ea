package plot

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// maxMatrix is the largest number of labels of which a field matrix is drawn.
const maxMatrix = 8192

// The kinds of cells of a clipped matrix.
const (
	zero     = iota // not above the threshold
	inside          // a one in the block of a cluster
	internal        // a one outside the blocks, in a column of the filter's labels
	external        // any other one
)

// clippedColors are the colours of these kinds.
func clippedColors() color.Palette { return color.Palette{color.White, blue, orange, grey} }

// clip returns the kinds of the cells of a field matrix and how many are ones.
func clip(m []float32, k int, fl *afcc.Filter, theta float64) (kinds []uint8, ones int) {
	cluster := make([]int, k)
	for i, c := range fl.Clusters {
		for _, j := range c {
			cluster[j] = i + 1
		}
	}
	kinds = make([]uint8, len(m))
	largest, above := float32(fl.Max), float32(theta)
	for i := range k {
		for j := range k {
			if !(m[i*k+j]/largest > above) {
				continue
			}
			ones++
			switch {
			case cluster[j] == 0:
				kinds[i*k+j] = external
			case cluster[i] != cluster[j]:
				kinds[i*k+j] = internal
			default:
				kinds[i*k+j] = inside
			}
		}
	}
	return kinds, ones
}

// clustersFirst returns the labels with those of the first cluster first, those of
// no cluster last.
func clustersFirst(fl *afcc.Filter, k int) []int {
	order := slices.Concat(fl.Clusters...)
	in := make([]bool, k)
	for _, j := range order {
		in[j] = true
	}
	for j := range k {
		if !in[j] {
			order = append(order, j)
		}
	}
	return order
}

// filterPanels are the places of the four matrices of a filter, for tests.
type filterPanels struct{ field, near, clipped, permuted grid }

// drawFilter draws the field matrix of a filter above its clipped matrix, the
// labels in their order at the left, those of clusters first at the right.
func (f *figure) drawFilter(s Spec, r *probe.Result, l *probe.Layer, m []float32) (p filterPanels, err error) {
	k := len(r.Data.Labels)
	switch {
	case s.Filter >= len(l.Filters):
		return p, &MissingError{s.word(), fmt.Sprintf("the layer has %d filters, numbered from 0", len(l.Filters))}
	case len(m) == 0:
		return p, &MissingError{s.word(), "field matrices are not kept with the statistics; it takes a new measurement"}
	case len(m) != k*k:
		return p, fmt.Errorf("picture %q: %d fields for %d labels", s.word(), len(m), k)
	case k > maxMatrix:
		return p, &MissingError{s.word(), fmt.Sprintf("a field matrix of more than %d labels is not drawn", maxMatrix)}
	}
	fl := &l.Filters[s.Filter]
	largest := float32(fl.Max)
	var kinds []uint8
	if fl.Max > 0 {
		var ones int
		if kinds, ones = clip(m, k, fl, r.Theta); ones != fl.Ones {
			return p, fmt.Errorf("picture %q: the field matrix is not that of the filter", s.word())
		}
	} else if largest = mostFinite(m); largest == 0 {
		largest = 1
	}
	below := false
	for _, v := range m {
		below = below || v/largest < -1
	}

	// The field of the labels in clusters is shown alone where these are few.
	order, near := clustersFirst(fl, k), fl.D()
	nearTitle := fmt.Sprintf("Field of the %d labels in its clusters, enlarged", near)
	if near == 0 || near > 60 || k <= 30 {
		near, nearTitle = k, "Field, labels of clusters first"
	}
	plainOrder := make([]int, k)
	for j := range plainOrder {
		plainOrder[j] = j
	}
	side := vg.Length(480)
	if k <= maxNamed {
		side = max(240, vg.Length(k)*min(36, max(4.8, 480/vg.Length(k))))
	}
	cell := side / vg.Length(k)
	nearSide := side
	if near < k {
		nearSide = min(side, vg.Length(near)*46)
	}
	inOrder := f.labelAxis(r.Data.Labels, plainOrder, cell)
	permuted := f.labelAxis(r.Data.Labels, order, cell)
	nearAxis := f.labelAxis(r.Data.Labels, order[:near], nearSide/vg.Length(near))

	const gap, heads, axisTitle, bar = 30, 26, 16, 90
	left := margin + axisTitle + inOrder.room
	second := left + side + gap + axisTitle + max(permuted.room, nearAxis.room)
	width := second + side + bar
	lines := f.noteLines(width-2*margin, filterNotes(f, k, below, kinds != nil)...)
	rowHeight := heads + side + axisTitle
	lower := notesHeight(lines) + 14 + axisTitle + max(inOrder.room, permuted.room)
	upper := lower + rowHeight + max(inOrder.room, nearAxis.room)
	f.open(width, upper+side+heads+titlesHeight+4)
	f.titles(margin, fmt.Sprintf("Filter %d of %s", s.Filter, layerName(l)), setting(r, filterNumbers(fl)...))

	value := func(order []int) func(i, j int) float32 {
		return func(i, j int) float32 { return m[order[i]*k+order[j]] / largest }
	}
	p.field = grid{box(left, upper, side, side), k, k}
	p.near = grid{box(second, upper+side-nearSide, nearSide, nearSide), near, near}
	p.clipped = grid{box(left, lower, side, side), k, k}
	p.permuted = grid{box(second, lower, side, side), k, k}

	f.matrix(p.field, "Field M / max(M), labels in order", inOrder, field(k, k, value(plainOrder)))
	f.values(p.field, value(plainOrder))
	f.matrix(p.near, nearTitle, nearAxis, field(near, near, value(order)))
	f.values(p.near, value(order))
	f.blocks(p.near, fl)
	f.scaleBar(box(second+side+20, upper+side*0.25, 12, side*0.6), r.Theta, below, "M / max")

	if kinds == nil {
		why := "No field is above 0: there is no clipped matrix."
		if fl.NonFinite {
			why = "A field is not finite: there is no clipped matrix."
		}
		for _, g := range []grid{p.clipped, p.permuted} {
			f.outline(0.7, rule, g.Rectangle)
			f.text((g.Min.X+g.Max.X)/2, (g.Min.Y+g.Max.Y)/2, style{size: 10, color: soft, across: 0.5, up: 0.5}, why)
		}
		f.notes(margin, lines)
		return p, nil
	}
	draw := func(g grid, title string, axis labelAxis, order []int) {
		img := image.NewPaletted(image.Rect(0, 0, k, k), clippedColors())
		for i := range k {
			for j := range k {
				img.Pix[i*img.Stride+j] = kinds[order[i]*k+order[j]]
			}
		}
		f.matrix(g, title, axis, img)
	}
	draw(p.clipped, fmt.Sprintf("Clipped: M / max(M) > %g, labels in order", r.Theta), inOrder, plainOrder)
	draw(p.permuted, "Clipped, labels of clusters first", permuted, order)
	if d := fl.D(); d > 0 && d < k {
		c := p.permuted.block(0, d)
		dashes := []vg.Length{2, 2}
		f.stroke(0.6, soft, dashes, vg.Point{X: c.Max.X, Y: p.permuted.Min.Y}, vg.Point{X: c.Max.X, Y: p.permuted.Max.Y})
		f.stroke(0.6, soft, dashes, vg.Point{X: p.permuted.Min.X, Y: c.Min.Y}, vg.Point{X: p.permuted.Max.X, Y: c.Min.Y})
	}
	f.blocks(p.permuted, fl)
	y := lower + side*0.75
	for kind, name := range []string{"", "in a cluster", "internal noise", "external noise"} {
		if kind != zero {
			f.key(second+side+20, y-16*vg.Length(kind), clippedColors()[kind], name)
		}
	}
	f.notes(margin, lines)
	return p, nil
}

func filterNumbers(fl *afcc.Filter) []string {
	if fl.Ratios == nil {
		return []string{"no cluster"}
	}
	cs := 0.0
	if n := len(fl.Clusters); n > 0 {
		cs = float64(fl.D()) / float64(n)
	}
	return []string{fmt.Sprintf("max %.3g", fl.Max), fmt.Sprintf("N_c = %d", len(fl.Clusters)), fmt.Sprintf("C_s = %.3g", cs), fmt.Sprintf("d = %d", fl.D()),
		fmt.Sprintf("n = %s (internal %s, external %s)", grouped(float64(fl.Noise), 0), grouped(float64(fl.Internal), 0), grouped(float64(fl.External), 0))}
}

func filterNotes(f *figure, k int, below, clipped bool) []string {
	notes := []string{"M(i,j): mean over the samples of label i of what output j gets from this filter alone. Rows are labels of samples, columns outputs of the head."}
	if clipped {
		notes = append(notes, "Clusters are blocks of ones, every ordered pair of their labels. Noise are the ones outside: internal in columns of labels that have a cluster, external in others.")
	}
	if below {
		notes = append(notes, "Fields below -max have the colour of -1.")
	}
	if f.numbered > 0 {
		notes = append(notes, "Labels whose names have letters that the font lacks are shown by number; SVG shows them.")
	}
	return notes
}

// mostFinite returns the largest magnitude of a finite number.
func mostFinite(m []float32) float32 {
	most := 0.0
	for _, v := range m {
		if a := math.Abs(float64(v)); !math.IsInf(a, 0) && a > most {
			most = a
		}
	}
	return float32(most)
}

// matrix draws a matrix of inputs by outputs with its axes.
func (f *figure) matrix(g grid, title string, axis labelAxis, img image.Image) {
	f.text(g.Min.X, g.Max.Y+9, heading(headSize), title)
	f.cells(g, img)
	axis.left(f, g)
	axis.below(f, g)
	st := style{size: 8.5, color: soft, across: 0.5}
	f.text((g.Min.X+g.Max.X)/2, g.Min.Y-axis.room-9, st, "output j")
	st.turn = math.Pi / 2
	f.text(g.Min.X-axis.room-3, (g.Min.Y+g.Max.Y)/2, st, "label i of the samples")
}

// values writes the numbers of a grid into its cells where there is room.
func (f *figure) values(g grid, v func(i, j int) float32) {
	c := g.cell(0, 0).Size()
	if min(c.X, c.Y) < 20 {
		return
	}
	for i := range g.rows {
		for j := range g.columns {
			r, x := g.cell(i, j), v(i, j)
			st := style{size: min(9, c.X/2.6), color: ink, across: 0.5, up: 0.5}
			if x > 0.55 || x < -0.55 {
				st.color = color.White
			}
			f.text((r.Min.X+r.Max.X)/2, (r.Min.Y+r.Max.Y)/2, st, positive(fmt.Sprintf("%.2f", x)))
		}
	}
}

// blocks draws the edges of the clusters of a matrix whose first labels are
// theirs.
func (f *figure) blocks(g grid, fl *afcc.Filter) {
	width := max(0.4, min(1.3, g.cell(0, 0).Size().X*0.3))
	first := 0
	for _, c := range fl.Clusters {
		if first+len(c) > g.rows {
			return
		}
		f.outline(width, ink, g.block(first, len(c)))
		first += len(c)
	}
}

// positive takes the sign from a number that was rounded to 0.
func positive(s string) string {
	if s == "-0.00" {
		return "0.00"
	}
	return s
}
