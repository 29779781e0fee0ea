package plot

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot/vg"
)

// grid is a panel of cells; row 0 is at the top.
type grid struct {
	vg.Rectangle
	rows, columns int
}

// cell returns the place of a cell.
func (g grid) cell(i, j int) vg.Rectangle {
	w, h := g.Size().X/vg.Length(g.columns), g.Size().Y/vg.Length(g.rows)
	return box(g.Min.X+vg.Length(j)*w, g.Max.Y-vg.Length(i+1)*h, w, h)
}

// block returns the place of a square of cells on the diagonal.
func (g grid) block(first, size int) vg.Rectangle {
	a, b := g.cell(first, first), g.cell(first+size-1, first+size-1)
	return vg.Rectangle{Min: vg.Point{X: a.Min.X, Y: b.Min.Y}, Max: vg.Point{X: b.Max.X, Y: a.Max.Y}}
}

// cells draws the image of a grid with an edge around it.
func (f *figure) cells(g grid, img image.Image) {
	f.image(g.Rectangle, img)
	f.outline(0.7, soft, g.Rectangle)
}

// maxNamed is the number of labels up to which axes name them.
const maxNamed = 120

// labelAxis names the rows and columns of a grid.
type labelAxis struct {
	names []string // nil for numbers
	count int
	st    style
	room  vg.Length // what the names take
}

// labelAxis prepares the names of labels for cells of a size.
func (f *figure) labelAxis(labels []string, order []int, cell vg.Length) labelAxis {
	a := labelAxis{count: len(order), st: style{size: min(9, cell*0.98), color: ink}}
	if len(order) > maxNamed {
		a.st.size = 8
		a.room = 34
		return a
	}
	for _, j := range order {
		name := strconv.Itoa(j)
		if j < len(labels) {
			name = f.name(labels[j], "#"+name, a.st, max(10*a.st.size, 60))
		}
		a.names = append(a.names, name)
		a.room = max(a.room, f.faces.width(name, a.st))
	}
	a.room += 6
	return a
}

// left writes the names of rows, below those of columns.
func (a *labelAxis) left(f *figure, g grid) {
	st := a.st
	st.across, st.up = 1, 0.5
	a.each(func(i int, s string) {
		c := g.cell(i, 0)
		y := (c.Min.Y + c.Max.Y) / 2
		x := g.Min.X - 4
		if a.names == nil {
			f.line(0.6, soft, vg.Point{X: g.Min.X, Y: y}, vg.Point{X: g.Min.X - 3, Y: y})
			x -= 2
		}
		f.text(x, y, st, s)
	})
}

func (a *labelAxis) below(f *figure, g grid) {
	st := a.st
	st.across, st.up, st.turn = 1, 0.5, math.Pi/2
	if a.names == nil {
		st.across, st.up, st.turn = 0.5, 1, 0
	}
	a.each(func(j int, s string) {
		c := g.cell(g.rows-1, j)
		x := (c.Min.X + c.Max.X) / 2
		y := g.Min.Y - 4
		if a.names == nil {
			f.line(0.6, soft, vg.Point{X: x, Y: g.Min.Y}, vg.Point{X: x, Y: g.Min.Y - 3})
			y -= 2
		}
		f.text(x, y, st, s)
	})
}

// each calls fn with the texts and their places.
func (a *labelAxis) each(fn func(i int, s string)) {
	if a.names != nil {
		for i, n := range a.names {
			fn(i, n)
		}
		return
	}
	values, _ := ticks(0, float64(a.count-1), 6)
	for _, v := range values {
		if i := int(v); i < a.count {
			fn(i, grouped(v, 0))
		}
	}
}

// scaleBar draws what the colours of field mean, with the threshold.
func (f *figure) scaleBar(r vg.Rectangle, theta float64, below bool, title string) {
	img := field(201, 1, func(i, _ int) float32 { return 1 - float32(i)/100 })
	f.cells(grid{r, 201, 1}, img)
	p := frame{Rectangle: r, y0: -1, y1: 1}
	st := style{size: 8.5, color: ink, up: 0.5}
	for _, v := range []float64{-1, -0.5, 0, 0.5, 1} {
		if math.Abs(v-theta) < 0.08 {
			continue
		}
		y := p.y(v)
		f.line(0.6, soft, vg.Point{X: r.Max.X, Y: y}, vg.Point{X: r.Max.X + 3, Y: y})
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if v == -1 && below {
			s = "≤ -1"
		}
		f.text(r.Max.X+6, y, st, s)
	}
	y := p.y(theta)
	f.line(1, ink, vg.Point{X: r.Min.X - 2, Y: y}, vg.Point{X: r.Max.X + 3, Y: y})
	st.bold = true
	f.text(r.Max.X+6, y, st, fmt.Sprintf("θ = %g", theta))
	f.text(r.Min.X, r.Max.Y+8, heading(8.5), title)
}

// key draws a small square of a colour with what it stands for, and returns the
// place behind.
func (f *figure) key(x, y vg.Length, c color.Color, text string) vg.Length {
	st := style{size: 8.5, color: ink, up: 0.5}
	r := box(x, y-4, 8, 8)
	f.fill(r, c)
	f.outline(0.5, soft, r)
	f.text(x+12, y, st, text)
	return x + 12 + f.faces.width(text, st) + 14
}
