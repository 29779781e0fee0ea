package plot

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/inspect/report"
)

// WriteCriteria draws accuracy against dilution, a line for each criterion: solid
// after recovery, dashed before, the original model as a level; below it how far each
// is ahead of the baseline, with the standard error of that. format is SVG or PNG.
//
// The error is a *MissingError when r holds no dilution, or that of w.
func WriteCriteria(w io.Writer, format string, r *export.CriteriaReport) error {
	faces, err := newTypefaces()
	if err != nil {
		return err
	}
	f := &figure{format: format, faces: faces}
	if err := f.drawCriteria(r); err != nil {
		return err
	}
	return f.writeTo(w)
}

// criterionColor is that of a criterion, the same in every picture.
func criterionColor(name string, i int) color.Color {
	if c, ok := map[string]color.Color{export.AFCC: vermillion, export.Weighted: orange, export.Magnitude: blue, export.Activation: green, export.Random: grey, export.Reconstruction: purple}[name]; ok {
		return c
	}
	return viridis(8)[i%8]
}

// green and purple are of the same palette as the other colours of lines.
var (
	green  = color.NRGBA{0x00, 0x9e, 0x73, 0xff}
	purple = color.NRGBA{0xcc, 0x79, 0xa7, 0xff}
)

// criterionLines are one criterion before and after recovery.
type criterionLines struct {
	name              string
	masked, recovered series
	// ahead is how far the solid line is ahead of the baseline, errors its errors.
	ahead  series
	errors []float64
}

func (f *figure) drawCriteria(r *export.CriteriaReport) error {
	if f.format != SVG && f.format != PNG {
		return fmt.Errorf("a picture is svg or png, not %q", f.format)
	}
	if len(r.Levels) == 0 {
		return &MissingError{"criteria", "no dilution was measured"}
	}
	const left, width, height, below, gap, legend = 58, 470, 230, 130, 34, 116
	total := vg.Length(margin + left + width + legend + margin)
	recovered := r.Levels[0].Recovered != nil
	all := criteriaSeries(r)
	lines := f.noteLines(total-2*margin, criteriaNotes(r, recovered)...)
	lower := notesHeight(lines) + 42
	f.open(total, lower+below+gap+height+24+titlesHeight)
	parts := []string{filepath.Base(r.Model), "target " + r.Target, counted(r.Original.Samples, "sample")}
	if recovered {
		parts = append(parts, "recovery "+strings.Join(r.Recover, ", "))
	}
	f.titles(margin, "Accuracy against dilution", strings.Join(parts, " · "))

	top := frame{Rectangle: box(margin+left, lower+below+gap, width, height)}
	first, last := 100*r.Levels[0].Dilution, 100*r.Levels[len(r.Levels)-1].Dilution
	pad := max(1, (last-first)*0.04)
	top.x0, top.x1 = first-pad, last+pad
	bottom := top
	bottom.Rectangle = box(margin+left, lower, width, below)
	f.accuracies(top, r, all)
	f.differences(bottom, r, all)
	f.criteriaKeys(vg.Point{X: top.Max.X + 22, Y: top.Min.Y + height*0.62}, all, recovered)
	f.notes(margin, lines)
	return nil
}

// accuracies draws the upper panel.
func (f *figure) accuracies(p frame, r *export.CriteriaReport, all []criterionLines) {
	hi := 100 * max(r.Original.Top1, r.Original.Chance)
	for i := range all {
		hi = max(hi, all[i].masked.most(), all[i].recovered.most())
	}
	f.fromZero(&p, hi, 6, " %")
	f.base(p)
	f.text(p.Min.X, p.Max.Y+10, heading(headSize), "top-1 accuracy")
	f.ownRule(p, r, true)
	f.levels(p, []level{
		{100 * r.Original.Top1, "original " + report.Share(r.Original.Top1).Text},
		{100 * r.Original.Chance, "chance " + report.Share(r.Original.Chance).Text},
	})
	for i := range all {
		f.series(p, &all[i].masked)
	}
	for i := range all {
		f.series(p, &all[i].recovered)
	}
}

// differences draws the lower panel: points ahead of the baseline, with their errors.
// Its scale holds all criteria but Random, which falls far below the others.
func (f *figure) differences(p frame, r *export.CriteriaReport, all []criterionLines) {
	lo, hi := -1.0, 1.0
	for i := range all {
		if all[i].name == export.Random && len(all) > 2 {
			continue
		}
		for k, v := range all[i].ahead.y {
			lo, hi = min(lo, v-all[i].errors[k]), max(hi, v+all[i].errors[k])
		}
	}
	values, decimals := ticks(lo, hi, 5)
	p.y0, p.y1 = values[0], values[len(values)-1]
	for _, v := range values {
		f.level(p, v, strconv.FormatFloat(v, 'f', decimals, 64))
	}
	state := "after recovery"
	if r.Levels[0].Recovered == nil {
		state = "without recovery"
	}
	f.text(p.Min.X, p.Max.Y+10, heading(headSize), "points ahead of "+r.Baseline+", "+state)
	f.line(1, soft, p.at(p.x0, 0), p.at(p.x1, 0))
	f.base(p)
	f.dilutionAxis(p, r)
	f.ownRule(p, r, false)
	for i := range all {
		if all[i].name != r.Baseline {
			f.within(p, &all[i])
			f.whiskers(p, &all[i])
		}
	}
}

// within draws the differences of a criterion that lie on the panel; its line leads on
// to the edge where they do not.
func (f *figure) within(p frame, l *criterionLines) {
	s := l.ahead
	dots := s.dots
	s.dots = 0
	f.series(p, &s)
	for i, v := range s.y {
		if v >= p.y0 && v <= p.y1 {
			f.dot(p.at(s.x[i], v), dots, s.color)
		}
	}
}

func criteriaNotes(r *export.CriteriaReport, recovered bool) []string {
	notes := []string{fmt.Sprintf("Dilution: share of the %s that falls. At each, every criterion keeps the same number in each layer, as many as afcc does.", r.Unit)}
	if recovered {
		notes = append(notes, "Solid: after recovery. Dashed: cut, before any recovery.")
	} else {
		notes = append(notes, "All without recovery.")
	}
	notes = append(notes, fmt.Sprintf("Bars: standard error of the difference from %s on the same samples; what lies below or above the lower panel is drawn at its edge.", r.Baseline))
	for i := range r.Levels {
		if t := r.Levels[i].Theta; t != nil {
			notes = append(notes, fmt.Sprintf("θ marks what afcc drops by its own rule at threshold %g.", *t))
		}
	}
	return notes
}

// criteriaSeries are the lines of all criteria. Where nothing was recovered the masked
// model is the solid line.
func criteriaSeries(r *export.CriteriaReport) []criterionLines {
	all := make([]criterionLines, len(r.Criteria))
	for i, name := range r.Criteria {
		c := criterionColor(name, i)
		l := criterionLines{name: name,
			masked:    series{color: c, width: 1, dashes: []vg.Length{3, 2.5}, dots: 1.5},
			recovered: series{color: c, width: 1.6, dots: 2.6},
			ahead:     series{color: c, width: 1.4, dots: 2.4}}
		for k := range r.Levels {
			j := slices.IndexFunc(r.Levels[k].Runs, func(run export.CriteriaRun) bool { return run.Criterion == name })
			if j < 0 {
				continue
			}
			run, x := &r.Levels[k].Runs[j], 100*r.Levels[k].Dilution
			last := &run.Masked
			if run.Recovered != nil {
				l.masked.add(x, 100*run.Masked.Top1, true)
				last = run.Recovered
			}
			l.recovered.add(x, 100*last.Top1, true)
			if last.Ahead != nil {
				l.ahead.add(x, last.Ahead.Points, true)
				l.errors = append(l.errors, last.Ahead.Error)
			}
		}
		all[i] = l
	}
	return all
}

// dilutionAxis draws the horizontal scale.
func (f *figure) dilutionAxis(p frame, r *export.CriteriaReport) {
	values, decimals := ticks(p.x0, p.x1, 8)
	for _, v := range values {
		if v < p.x0 || v > p.x1 || v > 100 {
			continue
		}
		f.line(0.6, soft, vg.Point{X: p.x(v), Y: p.Min.Y}, vg.Point{X: p.x(v), Y: p.Min.Y - 3})
		f.text(p.x(v), p.Min.Y-6, style{size: tickSize, color: soft, across: 0.5, up: 1}, strconv.FormatFloat(v, 'f', decimals, 64)+" %")
	}
	f.text((p.Min.X+p.Max.X)/2, p.Min.Y-20, style{size: 8.5, color: soft, across: 0.5, up: 1}, "dilution, share of the "+r.Unit+" that falls")
}

// ownRule marks the dilution that the paper's rule comes to.
func (f *figure) ownRule(p frame, r *export.CriteriaReport, named bool) {
	for i := range r.Levels {
		if r.Levels[i].Theta == nil {
			continue
		}
		x := p.x(100 * r.Levels[i].Dilution)
		f.stroke(0.8, soft, []vg.Length{2, 2}, vg.Point{X: x, Y: p.Min.Y}, vg.Point{X: x, Y: p.Max.Y})
		if named {
			f.text(x, p.Max.Y+3, style{size: tickSize, color: soft, across: 0.5}, "θ")
		}
	}
}

// whiskers draws the errors of the differences that lie on the panel.
func (f *figure) whiskers(p frame, l *criterionLines) {
	const half = 2.5
	for i, e := range l.errors {
		v := l.ahead.y[i]
		if !(e > 0) || math.IsInf(e, 0) || v < p.y0 || v > p.y1 {
			continue
		}
		x, low, high := p.x(l.ahead.x[i]), p.y(max(p.y0, v-e)), p.y(min(p.y1, v+e))
		f.line(0.9, l.ahead.color, vg.Point{X: x, Y: low}, vg.Point{X: x, Y: high})
		for _, y := range []vg.Length{low, high} {
			f.line(0.9, l.ahead.color, vg.Point{X: x - half, Y: y}, vg.Point{X: x + half, Y: y})
		}
	}
}

// criteriaKeys names the lines from the top down.
func (f *figure) criteriaKeys(top vg.Point, all []criterionLines, recovered bool) {
	st := style{size: 8.5, color: ink, up: 0.5}
	f.text(top.X, top.Y+10, heading(8.5), "criterion")
	y := top.Y - 6
	for i := range all {
		f.line(2, all[i].recovered.color, vg.Point{X: top.X, Y: y}, vg.Point{X: top.X + 16, Y: y})
		f.text(top.X+22, y, st, all[i].name)
		y -= 14
	}
	if !recovered {
		return
	}
	y -= 6
	for _, k := range []struct {
		dashes []vg.Length
		text   string
	}{{nil, "recovered"}, {[]vg.Length{3, 2.5}, "masked"}} {
		f.stroke(1.4, soft, k.dashes, vg.Point{X: top.X, Y: y}, vg.Point{X: top.X + 16, Y: y})
		f.text(top.X+22, y, st, k.text)
		y -= 14
	}
}
