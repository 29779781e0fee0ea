package plot

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/report"
)

// quantity is a number that each layer has.
type quantity struct {
	kind  Kind
	title string
	unit  string
	note  string
	scale float64
	of    func(s *afcc.Stats) (float64, bool)
	// wide tells that it spans orders of magnitude between thresholds.
	wide bool
	// all is the same averaged over all filters, nil where that makes no
	// difference.
	all func(s *afcc.Stats) float64
}

// quantities are those that are drawn, in the order of Depth.
func quantities() []quantity {
	mean := func(of func(a *afcc.Averages) float64) (func(*afcc.Stats) (float64, bool), func(*afcc.Stats) float64) {
		return func(s *afcc.Stats) (float64, bool) { return of(&s.Mean), s.WithoutCluster < s.Filters },
			func(s *afcc.Stats) float64 { return of(&s.MeanAll) }
	}
	q := []quantity{
		{kind: SNR, title: "SNR", scale: 1, wide: true, of: func(s *afcc.Stats) (float64, bool) {
			if s.SNR == nil {
				return 0, false
			}
			return *s.SNR, true
		}, note: "SNR = S / (N_int + N_ext): S = sum of d / K over the filters, N_int = sum of C(C-1) / (K(K-1)) over their clusters of C labels, N_ext = sum of n / (K(K-1))."},
		{kind: Accuracy, title: "accuracy of a linear head", unit: " %", scale: 100,
			note: "Accuracy: of a linear head without bias on the layer's output, everything before it frozen, on samples that it never saw."},
		{kind: Clusters, title: "N_c, clusters of a filter", scale: 1, note: "N_c: mean number of clusters of a filter."},
		{kind: Size, title: "C_s, labels in a cluster", scale: 1, note: "C_s: mean number of labels in a filter's clusters."},
		{kind: Labels, title: "d, labels of a filter", scale: 1, note: "d: mean number of labels in all clusters of a filter."},
		{kind: Noise, title: "n, noise of a filter", scale: 1, wide: true, note: "n: mean number of ones of a filter's clipped matrix outside its clusters."},
	}
	q[2].of, q[2].all = mean(func(a *afcc.Averages) float64 { return a.Nc })
	q[3].of, q[3].all = mean(func(a *afcc.Averages) float64 { return a.Cs })
	q[4].of, q[4].all = mean(func(a *afcc.Averages) float64 { return a.D })
	q[5].of, q[5].all = mean(func(a *afcc.Averages) float64 { return a.N })
	return q
}

// row returns a layer's number.
func (q *quantity) row(l *probe.Layer) (float64, bool) {
	if q.kind == Accuracy {
		return q.scale * l.Accuracy, true
	}
	v, ok := q.of(&l.Stats)
	return q.scale * v, ok && !math.IsNaN(v) && !math.IsInf(v, 0)
}

// series is a line through the layers, or the thresholds; values that are not ok
// leave a gap.
type series struct {
	x, y   []float64
	ok     []bool
	ring   []bool // dots that are hollow
	color  color.Color
	width  vg.Length
	dashes []vg.Length
	dots   vg.Length // radius, 0 for none
}

func (s *series) add(x, y float64, ok bool) {
	s.x, s.y, s.ok = append(s.x, x), append(s.y, y), append(s.ok, ok)
}

// most returns the largest value.
func (s *series) most() float64 {
	m := 0.0
	for i, y := range s.y {
		if s.ok[i] {
			m = max(m, y)
		}
	}
	return m
}

func (f *figure) series(p frame, s *series) {
	var run []vg.Point
	for i := range s.x {
		if s.ok[i] {
			run = append(run, p.at(s.x[i], s.y[i]))
			continue
		}
		f.stroke(s.width, s.color, s.dashes, run...)
		run = nil
	}
	f.stroke(s.width, s.color, s.dashes, run...)
	if s.dots == 0 {
		return
	}
	for i := range s.x {
		if s.ok[i] {
			f.dot(p.at(s.x[i], s.y[i]), s.dots, s.color)
			if s.ring != nil && s.ring[i] {
				f.dot(p.at(s.x[i], s.y[i]), s.dots-1, color.White)
			}
		}
	}
}

// nominal is a horizontal axis of names, one a step apart.
type nominal struct {
	names  []string
	step   vg.Length
	every  int // every how many names one is written
	st     style
	height vg.Length // of the names
	before vg.Length // how far the first one reaches to the left
}

// layerAxis names the layers in a width; short ones lie, long ones are turned.
func (f *figure) layerAxis(layers []probe.Layer, step vg.Length) nominal {
	a := nominal{step: step, every: 1, st: style{size: tickSize, color: ink}}
	const longest = 150
	widest := vg.Length(0)
	for i := range layers {
		name := f.name(layerName(&layers[i]), "layer "+strconv.Itoa(i+1), a.st, longest)
		a.names = append(a.names, name)
		widest = max(widest, f.faces.width(name, a.st))
	}
	switch {
	case widest <= step-6:
		a.st.across, a.st.up = 0.5, 1
		a.height = a.st.size
	case step >= 18:
		a.st.across, a.st.up, a.st.turn = 1, 1, math.Pi/4
		a.before = f.faces.width(a.names[0], a.st) * math.Sqrt2 / 2
		a.height = (widest + a.st.size) * math.Sqrt2 / 2
	default:
		if step < 10.5 {
			a.st.size = max(7, step-1.5)
			a.every = int(math.Ceil(float64(a.st.size+1.5) / float64(step)))
		}
		a.st.across, a.st.up, a.st.turn = 1, 0.5, math.Pi/2
		a.height = widest
	}
	return a
}

// stepFor returns how far apart layers stand.
func stepFor(layers int, room vg.Length) vg.Length {
	n := vg.Length(layers)
	return max(min(room/n, max(60, 300/n)), min(1400/n, 10.5))
}

// draw writes the names below a panel.
func (a *nominal) draw(f *figure, p frame) {
	last := len(a.names) - 1
	for i, name := range a.names {
		// The last one is always there; one too near gives way.
		if i != last && (i%a.every != 0 || last-i < a.every) {
			continue
		}
		x := p.x(float64(i))
		f.line(0.6, soft, vg.Point{X: x, Y: p.Min.Y}, vg.Point{X: x, Y: p.Min.Y - 3})
		f.text(x, p.Min.Y-6, a.st, name)
	}
}

// drawTrend draws numbers by layer.
func (f *figure) drawTrend(kind Kind, r *probe.Result) error {
	var shown []quantity
	for _, q := range quantities() {
		if kind == q.kind || kind == Depth || kind == SNR && q.kind == Accuracy {
			shown = append(shown, q)
		}
	}
	columns, height, room := 1, vg.Length(190), vg.Length(620)
	if kind == Depth {
		height, room = 120, 420
		if len(r.Layers) <= 30 {
			columns = 2
		}
	}
	rows := (len(shown) + columns - 1) / columns
	axis := f.layerAxis(r.Layers, stepFor(len(r.Layers), room))
	const right, gap = 78, 46
	left := max(56, axis.before-axis.step/2+14)
	inner := axis.step * vg.Length(len(r.Layers))
	column := left + inner + 12
	width := column*vg.Length(columns) - 12 + right
	var notes []string
	for _, q := range shown {
		notes = append(notes, q.note)
	}
	notes = append(notes, averagesNote(shown, r), gapNote(shown, r), ownNote(r))
	if f.numbered > 0 {
		notes = append(notes, fmt.Sprintf("%d layers whose names have letters that the font lacks are shown by number.", f.numbered))
	}
	lines := f.noteLines(width-2*margin, notes...)
	foot := axis.height + 24 + notesHeight(lines)
	f.open(width, titlesHeight+vg.Length(rows)*(height+gap)+foot-10)
	titles := map[Kind]string{SNR: "SNR and accuracy by layer", Depth: "Filters and clusters by layer"}
	title := titles[kind]
	if title == "" {
		title = shown[0].title + " by layer"
	}
	top := f.titles(margin, title, setting(r, fmt.Sprintf("theta %g", r.Theta), counted(len(r.Layers), "layer")))
	for i, q := range shown {
		x := vg.Length(i%columns)*column + left
		y := top - vg.Length(i/columns+1)*(height+gap) + 10
		p := frame{Rectangle: box(x, y, inner, height), x0: -0.5, x1: float64(len(r.Layers)) - 0.5}
		f.trend(p, &q, r)
		if i+columns >= len(shown) {
			axis.draw(f, p)
		}
	}
	f.notes(margin, lines)
	return nil
}

// margin is the empty space at the edges of a picture.
const margin = 20

func averagesNote(shown []quantity, r *probe.Result) string {
	none := 0
	for i := range r.Layers {
		none += r.Layers[i].Stats.WithoutCluster
	}
	for _, q := range shown {
		if q.all != nil && none > 0 {
			return "Lines with dots average over the filters that have a cluster, dashed ones over all."
		}
	}
	return ""
}

func gapNote(shown []quantity, r *probe.Result) string {
	for _, q := range shown {
		for i := range r.Layers {
			if _, ok := q.row(&r.Layers[i]); !ok {
				return "A cross marks a layer without the number: there is no noise to divide by, or no filter with a cluster."
			}
		}
	}
	return ""
}

// own tells whether a layer's head is the model's own classifier.
func own(l *probe.Layer) bool { return l.Head == "classifier" }

func ownNote(r *probe.Result) string {
	for i := range r.Layers {
		if own(&r.Layers[i]) {
			return "A ring marks a layer whose head is the model's own classifier; the others were trained."
		}
	}
	return ""
}

// trend draws one number by layer.
func (f *figure) trend(p frame, q *quantity, r *probe.Result) {
	line := series{color: blue, width: 1.6, dots: 2.6}
	all := series{color: grey, width: 1.1, dashes: []vg.Length{3, 2}}
	if len(r.Layers) > 60 {
		line.dots = 1.8
	}
	for i := range r.Layers {
		l := &r.Layers[i]
		v, ok := q.row(l)
		line.add(float64(i), v, ok)
		line.ring = append(line.ring, own(l))
		if q.all != nil {
			all.add(float64(i), q.scale*q.all(&l.Stats), true)
		}
	}
	hi := max(line.most(), all.most())
	if q.kind == Accuracy {
		line.color = vermillion
		hi = max(hi, q.scale*r.Accuracy, q.scale*r.Chance)
	}
	f.fromZero(&p, hi, 5, q.unit)
	f.base(p)
	f.text(p.Min.X, p.Max.Y+10, heading(headSize), q.title)
	if q.kind == Accuracy {
		f.levels(p, []level{
			{r.Accuracy * q.scale, "model " + report.Share(r.Accuracy).Text},
			{r.Chance * q.scale, "chance " + report.Share(r.Chance).Text},
		})
	}
	if q.all != nil && differ(&line, &all) {
		f.series(p, &all)
	}
	f.series(p, &line)
	for i := range line.x {
		if !line.ok[i] {
			f.cross(vg.Point{X: p.x(line.x[i]), Y: p.Min.Y + 5})
		}
	}
}

func differ(a, b *series) bool {
	for i := range a.y {
		if a.ok[i] && a.y[i] != b.y[i] {
			return true
		}
	}
	return false
}

func (f *figure) cross(at vg.Point) {
	const r = 2.4
	f.line(1, soft, vg.Point{X: at.X - r, Y: at.Y - r}, vg.Point{X: at.X + r, Y: at.Y + r})
	f.line(1, soft, vg.Point{X: at.X - r, Y: at.Y + r}, vg.Point{X: at.X + r, Y: at.Y - r})
}

// level is a value that all layers are compared with.
type level struct {
	value float64
	text  string
}

// levels draws two of them as lines with a text at the right, the larger first.
func (f *figure) levels(p frame, levels []level) {
	below := p.Max.Y + 100
	for _, l := range levels {
		y := p.y(l.value)
		f.stroke(0.9, soft, []vg.Length{4, 3}, vg.Point{X: p.Min.X, Y: y}, vg.Point{X: p.Max.X, Y: y})
		below = min(y, below-11)
		f.text(p.Max.X+5, below, style{size: 8.5, color: soft, up: 0.5}, l.text)
	}
}
