package plot

import (
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot/vg"
)

// Sizes of letters.
const (
	titleSize = 14
	noteSize  = 9
	headSize  = 10.5
	tickSize  = 9
)

func plain(size vg.Length, c color.Color) style { return style{size: size, color: c} }

func heading(size vg.Length) style { return style{size: size, bold: true, color: ink} }

// frame is a panel with two scales.
type frame struct {
	vg.Rectangle
	x0, x1, y0, y1 float64 // the values at its edges
	log            bool    // of the vertical scale; y0 and y1 are decimal logarithms then
}

func (p frame) x(v float64) vg.Length {
	return p.Min.X + p.Size().X*vg.Length((v-p.x0)/(p.x1-p.x0))
}

// y returns the height of a value; one far outside the panel, which a file may
// hold, lies at its edge.
func (p frame) y(v float64) vg.Length {
	if p.log {
		v = math.Log10(v)
	}
	share := (v - p.y0) / (p.y1 - p.y0)
	if math.IsNaN(share) {
		share = 0
	}
	return p.Min.Y + p.Size().Y*vg.Length(max(-0.02, min(1.02, share)))
}

func (p frame) at(x, y float64) vg.Point { return vg.Point{X: p.x(x), Y: p.y(y)} }

// ticks returns about n round numbers from lo to hi, the first at or below lo and
// the last at or above hi, and how many decimals they have.
func ticks(lo, hi float64, n int) (values []float64, decimals int) {
	if !(hi > lo) || math.IsInf(hi-lo, 0) {
		hi = lo + 1
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(m*step) <= float64(n)+1e-9 {
			step *= m
			break
		}
	}
	decimals = max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	first := math.Floor(lo/step + 1e-9)
	for i := first; ; i++ {
		values = append(values, i*step)
		if i*step >= hi-step*1e-9 {
			return values, decimals
		}
	}
}

// grouped writes a number with its thousands parted.
func grouped(v float64, decimals int) string {
	if math.Abs(v) >= 1e9 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	end := len(s)
	if decimals > 0 {
		end -= decimals + 1
	}
	for i := end - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		s = "-" + s
	}
	return s
}

// fromZero sets the vertical scale from 0 to a round number and draws its grid.
func (f *figure) fromZero(p *frame, hi float64, n int, unit string) {
	values, decimals := ticks(0, hi, n)
	p.y0, p.y1 = 0, values[len(values)-1]
	for _, v := range values {
		f.level(*p, v, grouped(v, decimals)+unit)
	}
}

// logarithmic sets a vertical scale that holds the positive values from lo to hi
// and draws its grid.
func (f *figure) logarithmic(p *frame, lo, hi float64) {
	var values []float64
	more := func() bool { n := len(values); return n < 2 || values[n-1] < hi }
	for e := math.Floor(math.Log10(lo)); more(); e++ {
		for _, m := range []float64{1, 2, 5} {
			if more() {
				values = append(values, m*math.Pow(10, e))
			}
		}
	}
	for len(values) > 2 && values[1] <= lo {
		values = values[1:]
	}
	p.log, p.y0, p.y1 = true, math.Log10(values[0]), math.Log10(values[len(values)-1])
	for _, v := range values {
		e := math.Log10(v)
		decade := math.Abs(e-math.Round(e)) < 1e-9
		if decade || len(values) <= 9 {
			f.level(*p, v, grouped(v, max(0, -int(math.Floor(e+1e-9)))))
		}
	}
}

// level draws a line of a grid.
func (f *figure) level(p frame, v float64, text string) {
	y := p.y(v)
	f.line(0.6, rule, vg.Point{X: p.Min.X, Y: y}, vg.Point{X: p.Max.X, Y: y})
	f.text(p.Min.X-6, y, style{size: tickSize, color: soft, across: 1, up: 0.5}, text)
}

// base draws the horizontal axis.
func (f *figure) base(p frame) {
	f.line(0.8, soft, p.Min, vg.Point{X: p.Max.X, Y: p.Min.Y})
}

// titles writes the title and what was measured at the top left, and returns the
// height that is left below.
func (f *figure) titles(left vg.Length, title, sub string) vg.Length {
	f.title = title + ", " + sub
	room := f.w - 2*left
	f.text(left, f.h-26, heading(titleSize), f.faces.fit(clean(title), heading(titleSize), room))
	f.text(left, f.h-41, plain(noteSize, soft), f.faces.fit(clean(sub), plain(noteSize, soft), room))
	return f.h - titlesHeight
}

const titlesHeight = 52

// notes writes sentences at the bottom.
func (f *figure) notes(left vg.Length, lines []string) {
	y := vg.Length(12)
	for i := len(lines) - 1; i >= 0; i-- {
		f.text(left, y, plain(8, soft), lines[i])
		y += noteLine
	}
}

const noteLine = 11

// noteLines wraps sentences to a width.
func (f *figure) noteLines(width vg.Length, sentences ...string) []string {
	var lines []string
	for _, s := range sentences {
		if s != "" {
			lines = append(lines, f.faces.wrap(clean(s), plain(8, soft), width)...)
		}
	}
	return lines
}

func notesHeight(lines []string) vg.Length { return 10 + noteLine*vg.Length(len(lines)) }
