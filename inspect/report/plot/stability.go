package plot

import (
	"fmt"
	"slices"
	"strconv"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc/probe"
)

// drawStability draws how the filters of a layer agree between repeated
// measurements: their label sets, and each of their clusters.
func (f *figure) drawStability(s Spec, r *probe.Result, l *probe.Layer) error {
	st := l.Stability
	if st == nil {
		return &MissingError{s.word(), "the layer was not measured repeatedly; measure with --stability"}
	}
	var sets, clusters []float64
	for _, fl := range st.Filters {
		if fl.Jaccard != nil {
			sets = append(sets, *fl.Jaccard)
		}
		for _, c := range fl.Clusters {
			clusters = append(clusters, c.Jaccard)
		}
	}
	const width, height, left, gap = 330, 200, 54, 40
	total := vg.Length(margin + 2*(left+width) + gap + margin)
	lines := f.noteLines(total-2*margin,
		fmt.Sprintf("Label sets: mean over pairs of the %d measurements of (labels in both sets) / (labels in either), one number a filter; filters that never have a label are left out.", st.Runs),
		"Clusters: mean over measurements of the largest Jaccard index with a cluster found there, one number a cluster. 0.75 and more is called stable, less than 0.5 dissolved (Hennig 2007).")
	lower := notesHeight(lines) + 34
	f.open(total, lower+height+34+titlesHeight)
	how := fmt.Sprintf("%d resamples of the samples", st.Runs)
	if st.Runs == 2 {
		how = "two halves of the samples"
	}
	f.titles(margin, "Stability of the filters of "+layerName(l), setting(r, counted(len(st.Filters), "filter"), how, fmt.Sprintf("theta %g", r.Theta)))
	a := frame{Rectangle: box(margin+left, lower, width, height), x1: 1}
	b := frame{Rectangle: box(margin+2*left+width+gap, lower, width, height), x1: 1}
	f.shares(a, "label sets: filters", "agreement of a filter's label sets, Jaccard index", sets, nil)
	f.shares(b, "clusters", "agreement of a cluster, Jaccard index", clusters, []float64{0.5, 0.75})
	f.notes(margin, lines)
	return nil
}

const bins = 20

// shares draws how many of some shares of 1 lie in each twentieth, the mean, and
// limits.
func (f *figure) shares(p frame, title, axis string, values, limits []float64) {
	counts := make([]float64, bins)
	sum, most := 0.0, 0.0
	values = slices.DeleteFunc(values, func(v float64) bool { return !(v >= 0 && v <= 1) })
	for _, v := range values {
		i := max(0, min(bins-1, int(v*bins)))
		counts[i]++
		sum += v
		most = max(most, counts[i])
	}
	f.text(p.Min.X, p.Max.Y+16, heading(headSize), fmt.Sprintf("%s (%s)", title, grouped(float64(len(values)), 0)))
	f.fromZero(&p, max(5, most), 5, "")
	for i, c := range counts {
		if c > 0 {
			lo, hi := p.at(float64(i)/bins, 0), p.at(float64(i+1)/bins, c)
			f.fill(vg.Rectangle{Min: lo.Add(vg.Point{X: 0.6}), Max: hi.Add(vg.Point{X: -0.6})}, blue)
		}
	}
	f.base(p)
	for _, x := range []float64{0, 0.25, 0.5, 0.75, 1} {
		f.line(0.6, soft, vg.Point{X: p.x(x), Y: p.Min.Y}, vg.Point{X: p.x(x), Y: p.Min.Y - 3})
		f.text(p.x(x), p.Min.Y-6, style{size: tickSize, color: soft, across: 0.5, up: 1}, strconv.FormatFloat(x, 'g', -1, 64))
	}
	f.text((p.Min.X+p.Max.X)/2, p.Min.Y-19, style{size: 8.5, color: soft, across: 0.5, up: 1}, axis)
	for _, x := range limits {
		f.stroke(0.8, soft, []vg.Length{3, 3}, p.at(x, p.y0), p.at(x, p.y1))
	}
	if len(values) == 0 {
		f.text((p.Min.X+p.Max.X)/2, (p.Min.Y+p.Max.Y)/2, style{size: 10, color: soft, across: 0.5}, "none")
		return
	}
	mean := sum / float64(len(values))
	f.line(1.4, vermillion, p.at(mean, p.y0), p.at(mean, p.y1))
	label := style{size: 8.5, color: vermillion, across: 0.5}
	f.text(p.x(mean), p.Max.Y+4, label, fmt.Sprintf("mean %.2f", mean))
}
