package plot

import (
	"bytes"
	"errors"
	"html"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"strings"

	xdraw "golang.org/x/image/draw"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// dpi is the resolution of PNG files: two pixels for each of a screen of 96.
const dpi = 192

// The colours. Those of lines are Okabe and Ito's, which colour-blind people tell
// apart (Wong, Nature Methods 8, 2011).
var (
	ink        = color.NRGBA{0x22, 0x22, 0x22, 0xff}
	soft       = color.NRGBA{0x66, 0x66, 0x66, 0xff}
	rule       = color.NRGBA{0xe4, 0xe4, 0xe4, 0xff}
	blue       = color.NRGBA{0x00, 0x72, 0xb2, 0xff}
	vermillion = color.NRGBA{0xd5, 0x5e, 0x00, 0xff}
	orange     = color.NRGBA{0xe6, 0x9f, 0x00, 0xff}
	grey       = color.NRGBA{0x99, 0x99, 0x99, 0xff}
)

// A figure is a picture while it is drawn. Lengths are points; the origin lies at
// the bottom left.
type figure struct {
	format string
	faces  *typefaces
	title  string
	w, h   vg.Length

	canvas vg.Canvas
	raster *vgimg.Canvas
	vector *vgsvg.Canvas
	// crisp tells of each image in the file whether its pixels are to be kept
	// apart when it is shown larger.
	crisp []bool
	// onText, if any, is told of every text.
	onText func(x, y vg.Length, st style, s string)
	// numbered counts the names that were replaced by numbers.
	numbered int
}

// open makes the canvas.
func (f *figure) open(w, h vg.Length) {
	f.w, f.h = vg.Length(math.Ceil(float64(w))), vg.Length(math.Ceil(float64(h)))
	if f.format == PNG {
		f.raster = vgimg.NewWith(vgimg.UseWH(f.w, f.h), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(color.White))
		f.canvas = f.raster
		return
	}
	f.vector = vgsvg.New(f.w, f.h)
	f.canvas = f.vector
	f.fill(box(0, 0, f.w, f.h), color.White)
}

// box returns a rectangle by its lower left corner and its size.
func box(x, y, w, h vg.Length) vg.Rectangle {
	return vg.Rectangle{Min: vg.Point{X: x, Y: y}, Max: vg.Point{X: x + w, Y: y + h}}
}

func (f *figure) fill(r vg.Rectangle, c color.Color) {
	f.canvas.SetColor(c)
	f.canvas.Fill(r.Path())
}

// line strokes a path through points.
func (f *figure) line(width vg.Length, c color.Color, points ...vg.Point) {
	f.stroke(width, c, nil, points...)
}

func (f *figure) stroke(width vg.Length, c color.Color, dashes []vg.Length, points ...vg.Point) {
	if len(points) < 2 {
		return
	}
	var p vg.Path
	p.Move(points[0])
	for _, pt := range points[1:] {
		p.Line(pt)
	}
	f.canvas.SetColor(c)
	f.canvas.SetLineWidth(width)
	f.canvas.SetLineDash(dashes, 0)
	f.canvas.Stroke(p)
}

// outline strokes a rectangle.
func (f *figure) outline(width vg.Length, c color.Color, r vg.Rectangle) {
	f.canvas.SetColor(c)
	f.canvas.SetLineWidth(width)
	f.canvas.SetLineDash(nil, 0)
	f.canvas.Stroke(r.Path())
}

func (f *figure) dot(pt vg.Point, radius vg.Length, c color.Color) {
	var p vg.Path
	p.Move(vg.Point{X: pt.X + radius, Y: pt.Y})
	p.Arc(pt, radius, 0, 2*math.Pi)
	p.Close()
	f.canvas.SetColor(c)
	f.canvas.Fill(p)
}

// text draws s at a point.
func (f *figure) text(x, y vg.Length, st style, s string) {
	if s == "" {
		return
	}
	s = f.readable(s)
	if f.onText != nil {
		f.onText(x, y, st, s)
	}
	w, up := f.faces.width(s, st), st.size*capital*vg.Length(st.up)
	face := f.faces.face(st)
	f.canvas.SetColor(st.color)
	if st.turn == 0 {
		f.canvas.FillString(face, vg.Point{X: x - w*vg.Length(st.across), Y: y - up}, s)
		return
	}
	f.canvas.Push()
	f.canvas.Translate(vg.Point{X: x, Y: y})
	f.canvas.Rotate(st.turn)
	f.canvas.FillString(face, vg.Point{X: -w * vg.Length(st.across), Y: -up}, s)
	f.canvas.Pop()
}

// readable replaces letters that cannot be drawn. In SVG the viewer's fonts have
// what the font of the picture lacks.
func (f *figure) readable(s string) string {
	s = clean(s)
	if f.format == SVG || f.faces.covers(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if f.faces.has(r) {
			return r
		}
		return '?'
	}, s)
}

// name returns a name that can be drawn, no wider than max: its number where the
// font lacks letters of it.
func (f *figure) name(s, number string, st style, max vg.Length) string {
	s = clean(s)
	if f.format == PNG && !f.faces.covers(s) {
		f.numbered++
		return number
	}
	return f.faces.fit(s, st, max)
}

// image draws an image whose pixels are the cells of a matrix.
func (f *figure) image(r vg.Rectangle, img image.Image) {
	b := img.Bounds()
	across := float64(r.Size().X) * dpi / 72 / float64(b.Dx())
	down := float64(r.Size().Y) * dpi / 72 / float64(b.Dy())
	larger := min(across, down) >= 1
	if f.raster == nil {
		// A screen has half the pixels of a PNG file.
		f.crisp = append(f.crisp, min(across, down) >= 2)
		f.canvas.DrawImage(r, img)
		return
	}
	var scaler xdraw.Scaler = xdraw.NearestNeighbor
	if !larger {
		scaler = xdraw.BiLinear
	}
	scaler.Scale(f.raster.Image(), f.pixels(r), img, b, xdraw.Src, nil)
}

// pixels returns a rectangle in pixels of the PNG file.
func (f *figure) pixels(r vg.Rectangle) image.Rectangle {
	px := func(l vg.Length) int { return int(math.Round(float64(l) * dpi / 72)) }
	height := f.raster.Image().Bounds().Dy()
	return image.Rect(px(r.Min.X), height-px(r.Max.Y), px(r.Max.X), height-px(r.Min.Y))
}

// writeTo writes the file.
func (f *figure) writeTo(w io.Writer) error {
	if f.format == PNG {
		enc := png.Encoder{CompressionLevel: png.BestSpeed}
		return enc.Encode(w, f.raster.Image())
	}
	var b bytes.Buffer
	if _, err := f.vector.WriteTo(&b); err != nil {
		return err
	}
	s, err := f.finish(b.String())
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, s)
	return err
}

// finish makes good what the writer of SVG leaves out. What it looks for holds
// characters that are escaped in texts, so no name can be mistaken for it.
func (f *figure) finish(svg string) (string, error) {
	const (
		head  = `xmlns:xlink="http://www.w3.org/1999/xlink">`
		font  = `style="font-family:Liberation Sans;`
		img   = `<image x="`
		bytes = `xlink:href="data:image/jpg;base64,` // they are PNG
	)
	before, svg, ok := strings.Cut(svg, head)
	if !ok {
		return "", errors.New("the SVG has no head")
	}
	svg = strings.NewReplacer(
		font, `style="font-family:'Liberation Sans',Arial,Helvetica,sans-serif;`,
		bytes, `xlink:href="data:image/png;base64,`,
	).Replace(svg)
	var b strings.Builder
	b.WriteString(before + head + "\n<title>" + html.EscapeString(clean(f.title)) + "</title>")
	for _, crisp := range f.crisp {
		before, svg, ok = strings.Cut(svg, img)
		if !ok {
			return "", errors.New("the SVG lacks an image")
		}
		b.WriteString(before + "<image ")
		if crisp {
			b.WriteString(`style="image-rendering:pixelated" `)
		}
		b.WriteString(`preserveAspectRatio="none" x="`)
	}
	b.WriteString(svg)
	return b.String(), nil
}
