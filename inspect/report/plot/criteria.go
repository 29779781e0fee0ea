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
// after recovery with the standard error of the difference from the baseline, dashed
// before, the original model as a level. format is SVG or PNG.
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

// criterionColors are those of the criteria, the same in every picture.
func criterionColor(name string, i int) color.Color {
	if c, ok := map[string]color.Color{export.AFCC: vermillion, export.Weighted: orange, export.Magnitude: blue, export.Activation: green, export.Random: grey}[name]; ok {
		return c
	}
	return viridis(8)[i%8]
}

// green is of the same palette as the other colours of lines.
var green = color.NRGBA{0x00, 0x9e, 0x73, 0xff}

// criterionLines are one criterion before and after recovery.
type criterionLines struct {
	name              string
	masked, recovered series
	// errors are those of recovered, 0 for the baseline.
	errors []float64
}

func (f *figure) drawCriteria(r *export.CriteriaReport) error {
	if f.format != SVG && f.format != PNG {
		return fmt.Errorf("a picture is svg or png, not %q", f.format)
	}
	if len(r.Levels) == 0 || r.Original == nil {
		return &MissingError{"criteria", "no dilution was measured"}
	}
	const left, width, height, legend = 58, 470, 270, 116
	total := vg.Length(margin + left + width + legend + margin)
	recovered := r.Levels[0].Recovered != nil
	lines := f.noteLines(total-2*margin, criteriaNotes(r, recovered)...)
	lower := notesHeight(lines) + 42
	f.open(total, lower+height+24+titlesHeight)
	parts := []string{filepath.Base(r.Model), "target " + r.Target, counted(r.Original.Samples, "sample")}
	if recovered {
		parts = append(parts, "recovery "+strings.Join(r.Recover, ", "))
	}
	f.titles(margin, "Accuracy against dilution", strings.Join(parts, " · "))

	p := frame{Rectangle: box(margin+left, lower, width, height)}
	all := criteriaSeries(r)
	hi := 100 * max(r.Original.Top1, r.Original.Chance)
	for i := range all {
		hi = max(hi, all[i].masked.most(), all[i].recovered.most())
	}
	f.fromZero(&p, hi, 6, " %")
	f.base(p)
	f.text(p.Min.X, p.Max.Y+10, heading(headSize), "top-1 accuracy")
	f.dilutionAxis(&p, r)
	f.levels(p, []level{
		{100 * r.Original.Top1, "original " + report.Share(r.Original.Top1).Text},
		{100 * r.Original.Chance, "chance " + report.Share(r.Original.Chance).Text},
	})
	for i := range all {
		f.series(p, &all[i].masked)
	}
	for i := range all {
		f.whiskers(p, &all[i])
		f.series(p, &all[i].recovered)
	}
	f.criteriaKeys(vg.Point{X: p.Max.X + 22, Y: p.Min.Y + height*0.62}, all, recovered)
	f.notes(margin, lines)
	return nil
}

func criteriaNotes(r *export.CriteriaReport, recovered bool) []string {
	notes := []string{fmt.Sprintf("Dilution: share of the %s that falls. At each, every criterion keeps the same number in each layer, as many as afcc does.", r.Unit)}
	if recovered {
		notes = append(notes, fmt.Sprintf("Solid: after recovery; bars: standard error of the difference from %s on the same samples. Dashed: cut, before any recovery.", r.Baseline))
	} else {
		notes = append(notes, fmt.Sprintf("Without recovery; bars: standard error of the difference from %s on the same samples.", r.Baseline))
	}
	for i := range r.Levels {
		if t := r.Levels[i].Theta; t != nil {
			notes = append(notes, fmt.Sprintf("The tick θ marks what afcc drops by its own rule at threshold %g.", *t))
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
			recovered: series{color: c, width: 1.6, dots: 2.6}}
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
			e := 0.0
			if last.Ahead != nil {
				e = last.Ahead.Error
			}
			l.errors = append(l.errors, e)
		}
		all[i] = l
	}
	return all
}

// dilutionAxis sets the horizontal scale about the dilutions and draws it.
func (f *figure) dilutionAxis(p *frame, r *export.CriteriaReport) {
	first, last := 100*r.Levels[0].Dilution, 100*r.Levels[len(r.Levels)-1].Dilution
	pad := max(1, (last-first)*0.04)
	values, decimals := ticks(first-pad, last+pad, 8)
	p.x0, p.x1 = first-pad, last+pad
	for _, v := range values {
		if v < p.x0 || v > p.x1 || v > 100 {
			continue
		}
		f.line(0.6, soft, vg.Point{X: p.x(v), Y: p.Min.Y}, vg.Point{X: p.x(v), Y: p.Min.Y - 3})
		f.text(p.x(v), p.Min.Y-6, style{size: tickSize, color: soft, across: 0.5, up: 1}, strconv.FormatFloat(v, 'f', decimals, 64)+" %")
	}
	for i := range r.Levels {
		if r.Levels[i].Theta != nil {
			x := p.x(100 * r.Levels[i].Dilution)
			f.stroke(0.8, soft, []vg.Length{2, 2}, vg.Point{X: x, Y: p.Min.Y}, vg.Point{X: x, Y: p.Max.Y})
			f.text(x, p.Max.Y+3, style{size: tickSize, color: soft, across: 0.5}, "θ")
		}
	}
	f.text((p.Min.X+p.Max.X)/2, p.Min.Y-20, style{size: 8.5, color: soft, across: 0.5, up: 1}, "dilution, share of the "+r.Unit+" that falls")
}

// whiskers draws the errors of a line.
func (f *figure) whiskers(p frame, l *criterionLines) {
	const half = 2.5
	for i, e := range l.errors {
		if e <= 0 || math.IsInf(e, 0) || math.IsNaN(e) {
			continue
		}
		x := p.x(l.recovered.x[i])
		low, high := p.y(max(p.y0, l.recovered.y[i]-e)), p.y(l.recovered.y[i]+e)
		f.line(0.9, l.recovered.color, vg.Point{X: x, Y: low}, vg.Point{X: x, Y: high})
		for _, y := range []vg.Length{low, high} {
			f.line(0.9, l.recovered.color, vg.Point{X: x - half, Y: y}, vg.Point{X: x + half, Y: y})
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
