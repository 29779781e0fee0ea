package plot

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// drawTheta draws a layer's row, or those of all layers, against the threshold.
func (f *figure) drawTheta(s Spec, r *probe.Result) error {
	layers := make([]*probe.Layer, 0, len(r.Layers))
	for i := range r.Layers {
		if l := &r.Layers[i]; s.Layer == "" || l.Tensor == s.Tensor {
			layers = append(layers, l)
		}
	}
	if len(layers) == 0 {
		return &MissingError{s.word(), "the layer was not measured"}
	}
	for _, l := range layers {
		if len(l.Sweep) == 0 {
			return &MissingError{s.word(), "the statistics were not measured at other thresholds; measure with --thetas"}
		}
	}
	shown := slices.DeleteFunc(quantities(), func(q quantity) bool { return q.kind == Accuracy })
	shown = append(shown, quantity{title: "filters without a cluster", unit: " %", scale: 100, of: func(s *afcc.Stats) (float64, bool) {
		return float64(s.WithoutCluster) / float64(max(1, s.Filters)), true
	}})
	const columns, width, height, gap, left = 3, 250, 160, 62, 52
	column := vg.Length(left + width + 14)
	legend := f.thetaLegend(layers)
	total := margin + columns*column + legend + margin
	lines := f.noteLines(total-2*margin, append(notesOf(shown), averagedNote)...)
	lower := notesHeight(lines) + 34
	f.open(total, lower+2*height+gap+30+titlesHeight)
	title := "What the threshold changes"
	if s.Layer != "" {
		title += " in " + layerName(layers[0])
	}
	f.titles(margin, title, setting(r, counted(len(layers[0].Sweep), "threshold")))
	colors := viridis(max(2, len(layers)))
	for i, q := range shown {
		p := frame{Rectangle: box(margin+left+vg.Length(i%columns)*column, lower+vg.Length(1-i/columns)*(height+gap), width, height)}
		f.thresholds(p, &q, layers, r.Theta, colors)
	}
	if len(layers) > 1 {
		f.thetaKeys(vg.Point{X: margin + columns*column + 6, Y: lower + 2*height + gap}, layers, colors, 2*height+gap)
	}
	f.notes(margin, lines)
	return nil
}

const averagedNote = "Numbers of filters average over those that have a cluster at the threshold. The dashed line is the threshold of the clusters in reports. Logarithmic scales leave out 0."

func notesOf(shown []quantity) []string {
	var notes []string
	for _, q := range shown {
		notes = append(notes, q.note)
	}
	return notes
}

// thresholds draws one number against the threshold.
func (f *figure) thresholds(p frame, q *quantity, layers []*probe.Layer, theta float64, colors color.Palette) {
	lines := make([]series, len(layers))
	lo, hi, last := math.Inf(1), 0.0, 0.0
	for i, l := range layers {
		s := series{color: colors[i], width: 1.3}
		if len(layers) == 1 {
			s = series{color: blue, width: 1.6, dots: 2.4}
		}
		for _, row := range l.Sweep {
			v, ok := q.of(&row)
			s.add(row.Theta, q.scale*v, ok && !math.IsNaN(v) && !math.IsInf(v, 0))
			if ok && v > 0 {
				lo = min(lo, q.scale*v)
			}
			last = max(last, row.Theta)
		}
		hi = max(hi, s.most())
		lines[i] = s
	}
	// Below a ten thousandth of the largest value nothing is told apart anyway.
	if lo = max(lo, hi/1e4); q.wide && hi > 20*lo {
		f.logarithmic(&p, lo, hi)
		for i := range lines {
			for j, v := range lines[i].y {
				lines[i].ok[j] = lines[i].ok[j] && v >= lo
			}
		}
	} else {
		f.fromZero(&p, hi, 4, q.unit)
	}
	xs, decimals := ticks(0, max(last, theta), 5)
	p.x0, p.x1 = 0, min(1, xs[len(xs)-1])
	f.base(p)
	for _, x := range xs {
		if x <= p.x1 {
			f.line(0.6, soft, vg.Point{X: p.x(x), Y: p.Min.Y}, vg.Point{X: p.x(x), Y: p.Min.Y - 3})
			f.text(p.x(x), p.Min.Y-6, style{size: tickSize, color: soft, across: 0.5, up: 1}, strconv.FormatFloat(x, 'f', decimals, 64))
		}
	}
	f.text((p.Min.X+p.Max.X)/2, p.Min.Y-18, style{size: 8.5, color: soft, across: 0.5, up: 1}, "θ, share of the filter's largest field")
	f.text(p.Min.X, p.Max.Y+10, heading(headSize), q.title)
	f.stroke(0.9, soft, []vg.Length{3, 3}, vg.Point{X: p.x(theta), Y: p.Min.Y}, vg.Point{X: p.x(theta), Y: p.Max.Y})
	for i := range lines {
		f.series(p, &lines[i])
	}
}

const (
	keyName  = 110
	keyLines = 24 // up to as many layers each has its name
)

// thetaLegend returns how wide the names of the layers are.
func (f *figure) thetaLegend(layers []*probe.Layer) vg.Length {
	if len(layers) == 1 {
		return 0
	}
	widest := vg.Length(0)
	for i := range layers {
		widest = max(widest, f.faces.width(f.keyText(layers, i), plain(8.5, ink)))
	}
	return widest + 34
}

func (f *figure) keyText(layers []*probe.Layer, i int) string {
	return f.name(layerName(layers[i]), "layer "+strconv.Itoa(i+1), plain(8.5, ink), keyName)
}

// thetaKeys names the colours of layers from the top down: each, or some beside a
// bar where there are many.
func (f *figure) thetaKeys(top vg.Point, layers []*probe.Layer, colors color.Palette, height vg.Length) {
	f.text(top.X, top.Y+10, heading(8.5), "layer")
	st := style{size: 8.5, color: ink, up: 0.5}
	if len(layers) <= keyLines {
		for i := range layers {
			y := top.Y - 6 - 13*vg.Length(i)
			f.line(2, colors[i], vg.Point{X: top.X, Y: y}, vg.Point{X: top.X + 14, Y: y})
			f.text(top.X+19, y, st, f.keyText(layers, i))
		}
		return
	}
	each := height / vg.Length(len(layers))
	every := int(math.Ceil(float64(13 / each)))
	for i := range layers {
		y := top.Y - each*vg.Length(i+1)
		f.fill(box(top.X, y, 12, each+0.2), colors[i])
		if last := len(layers) - 1; i == last || i%every == 0 && last-i >= every {
			f.text(top.X+17, y+each/2, st, f.keyText(layers, i))
		}
	}
}
