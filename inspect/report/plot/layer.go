package plot

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc/probe"
)

// byStrongest returns the filters in the order of their strongest label, those of
// one label by falling strength of the next; those without fields come last.
func byStrongest(l *probe.Layer) (order, strongest []int) {
	strongest = make([]int, len(l.Filters))
	order = make([]int, len(l.Filters))
	for i, f := range l.Filters {
		order[i], strongest[i] = i, math.MaxInt
		for j, v := range f.Ratios {
			if j == 0 || v > f.Ratios[strongest[i]] {
				strongest[i] = j
			}
		}
	}
	most := func(i int) float32 {
		if l.Filters[i].Ratios == nil {
			return 0
		}
		return l.Filters[i].Ratios[strongest[i]]
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(strongest[a], strongest[b]), cmp.Compare(most(b), most(a)), cmp.Compare(a, b))
	})
	return order, strongest
}

// drawLayer draws the filters of a layer by the labels.
func (f *figure) drawLayer(s Spec, r *probe.Result, l *probe.Layer) error {
	k, n := len(r.Data.Labels), len(l.Filters)
	if n == 0 {
		return &MissingError{s.word(), "the layer has no filters"}
	}
	labels := make([]int, k)
	count := make([]float64, k)
	for j := range labels {
		labels[j] = j
	}
	empty, below := 0, false
	for i := range l.Filters {
		fl := &l.Filters[i]
		for _, j := range fl.Labels() {
			count[j]++
		}
		if fl.Ratios == nil {
			empty++
		}
		below = below || slices.ContainsFunc(fl.Ratios, func(v float32) bool { return v < -1 })
	}
	order, _ := byStrongest(l)

	width := vg.Length(860)
	if k <= maxNamed {
		width = max(260, vg.Length(k)*min(40, max(8.6, 640/vg.Length(k))))
	}
	row := max(120/vg.Length(n), min(14, max(5.6, 320/vg.Length(n))))
	named := row*vg.Length(n) <= 1100
	if !named {
		row = 760 / vg.Length(n)
	}
	height := row * vg.Length(n)
	axis := f.labelAxis(r.Data.Labels, labels, width/vg.Length(k))
	notes := []string{
		"A cell is M(j,j) / max(M) of a filter's field matrix: how much the filter helps the head to recognise its own label j. Above θ the label is one of the filter's.",
		"Filters stand in the order of their strongest label. The bars above count the filters that have the label.",
	}
	if empty > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d filters, at the bottom, have no field above 0 or one that is not finite.", empty, n))
	}
	if below {
		notes = append(notes, "Ratios below -1 have the colour of -1.")
	}
	if f.numbered > 0 {
		notes = append(notes, "Labels whose names have letters that the font lacks are shown by number; SVG shows them.")
	}
	const left, upper, bar = 50, 64, 90
	total := margin + left + width + bar
	lines := f.noteLines(total-2*margin, notes...)
	lower := notesHeight(lines) + 24 + axis.room
	f.open(total, lower+height+16+upper+24+titlesHeight)
	without := ""
	if l.Stats.WithoutCluster > 0 {
		without = fmt.Sprintf("%s without a cluster", grouped(float64(l.Stats.WithoutCluster), 0))
	}
	sub := []string{counted(n, "filter")}
	if without != "" {
		sub = append(sub, without)
	}
	f.titles(margin, "Labels of the filters of "+layerName(l), setting(r, append(sub, fmt.Sprintf("theta %g", r.Theta))...))
	g := grid{box(margin+left, lower, width, height), n, k}

	top := frame{Rectangle: box(g.Min.X, g.Max.Y+16, width, upper), x0: 0, x1: float64(k)}
	f.text(top.Min.X, top.Max.Y+10, heading(headSize), "filters with the label")
	f.fromZero(&top, max(2, slices.Max(count)), 3, "")
	w := top.Size().X / vg.Length(k)
	var bars vg.Path
	for j, c := range count {
		if c > 0 {
			bar := vg.Rectangle{Min: top.at(float64(j), 0).Add(vg.Point{X: w * 0.1}), Max: top.at(float64(j+1), c).Add(vg.Point{X: -w * 0.1})}
			bars = append(bars, bar.Path()...)
		}
	}
	f.canvas.SetColor(blue)
	f.canvas.Fill(bars)
	f.base(top)
	st := style{size: 8.5, color: soft, up: 0.5}
	y := top.y(l.Stats.Signal)
	f.stroke(0.9, soft, []vg.Length{3, 3}, vg.Point{X: top.Min.X, Y: y}, vg.Point{X: top.Max.X, Y: y})
	f.text(top.Max.X+5, y, st, fmt.Sprintf("mean S = %.3g", l.Stats.Signal))

	f.cells(g, field(n, k, func(i, j int) float32 {
		if ratios := l.Filters[order[i]].Ratios; ratios != nil {
			return ratios[j]
		}
		return float32(math.NaN())
	}))
	axis.below(f, g)
	f.text((g.Min.X+g.Max.X)/2, g.Min.Y-axis.room-10, style{size: 8.5, color: soft, across: 0.5}, "label j")
	st = style{size: 8.5, color: soft, across: 0.5, turn: math.Pi / 2}
	beside := vg.Length(10)
	if named {
		beside = 32
	}
	f.text(g.Min.X-beside, (g.Min.Y+g.Max.Y)/2, st, "filters, by strongest label")
	if named {
		st := style{size: min(9, row*0.95), color: ink, across: 1, up: 0.5}
		for i, at := range order {
			c := g.cell(i, 0)
			f.text(g.Min.X-5, (c.Min.Y+c.Max.Y)/2, st, strconv.Itoa(at))
		}
	}
	scale := min(height, 260) - 18
	f.scaleBar(box(g.Max.X+20, g.Max.Y-18-scale, 12, scale), r.Theta, below, "M(j,j) / max")
	f.notes(margin, lines)
	return nil
}
