package dataset

import (
	"bufio"
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"
)

// Image is a decoded sample of 8 bits a channel.
type Image struct {
	// Channels is 1 (grey) or 3 (red, green, blue).
	Channels, Height, Width int
	// Pix holds one plane a channel, each Height rows of Width values:
	// Channels*Height*Width in all.
	Pix []uint8
}

// reset gives the image a shape and room, its content undefined.
func (m *Image) reset(channels, height, width int) {
	m.Channels, m.Height, m.Width = channels, height, width
	n := channels * height * width
	if cap(m.Pix) < n {
		m.Pix = make([]uint8, n)
	}
	m.Pix = m.Pix[:n]
}

func (m *Image) plane(c int) []uint8 {
	n := m.Height * m.Width
	return m.Pix[c*n : (c+1)*n]
}

// Image reads sample i as package image has it: *image.Gray with one channel,
// opaque *image.RGBA with three. The error is an *Error that names the sample.
func (s *Set) Image(i int) (image.Image, error) {
	m, err := s.Decode(i)
	if err != nil {
		return nil, err
	}
	r := image.Rect(0, 0, m.Width, m.Height)
	if m.Channels == 1 {
		return &image.Gray{Pix: m.Pix, Stride: m.Width, Rect: r}, nil
	}
	rgba := image.NewRGBA(r)
	for c := range m.Channels {
		for at, v := range m.plane(c) {
			rgba.Pix[4*at+c] = v
		}
	}
	for at := 3; at < len(rgba.Pix); at += 4 {
		rgba.Pix[at] = 0xff
	}
	return rgba, nil
}

// scratch is what one goroutine reuses from sample to sample.
type scratch struct {
	img  Image
	tmp  [3]Image
	rows []uint8
	sums []int32
	buf  []byte
	br   *bufio.Reader
	// packed is what buf is decompressed from.
	packed []byte
}

type codec struct {
	name   string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

// sniffLen is how much of a file the codecs look at.
const sniffLen = 16

// codecFor finds the format by content. The registry of package image is not
// used: what it knows depends on who else is linked in.
func codecFor(head []byte) (codec, bool) {
	prefix := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case prefix("\x89PNG\r\n\x1a\n"):
		return codec{name: "PNG", config: png.DecodeConfig, decode: png.Decode}, true
	case prefix("\xff\xd8\xff"):
		return codec{name: "JPEG", config: jpeg.DecodeConfig, decode: jpeg.Decode}, true
	case prefix("GIF87a"), prefix("GIF89a"):
		return codec{name: "GIF", config: gif.DecodeConfig, decode: gif.Decode}, true
	case len(head) >= 12 && prefix("RIFF") && string(head[8:12]) == "WEBP":
		return codec{name: "WebP", config: webp.DecodeConfig, decode: webp.Decode}, true
	// The two reserved fields tell a bitmap from a text that begins with BM.
	case len(head) >= 10 && prefix("BM") && head[6]|head[7]|head[8]|head[9] == 0:
		return codec{name: "BMP", config: bmp.DecodeConfig, decode: bmp.Decode}, true
	}
	return codec{}, false
}

func noImage(head []byte) error {
	if len(head) == 0 {
		return fault(ErrFormat, "empty file")
	}
	return fault(ErrFormat, "not a PNG, JPEG, WebP, BMP or GIF file")
}

// decodeImage decodes the image file in r into w.img. The size that the header
// claims is checked before anything of that size is allocated.
func decodeImage(r io.ReadSeeker, w *scratch, maxPixels int64) (err error) {
	// The decoders are other people's and the files anybody's: a panic in one
	// costs a sample, not the run.
	defer func() {
		if p := recover(); p != nil {
			err = fault(ErrFormat, "decoder failed: %v", p)
		}
	}()
	if w.br == nil {
		w.br = bufio.NewReaderSize(nil, 64<<10)
	}
	w.br.Reset(r)
	defer w.br.Reset(nil)
	head, err := w.br.Peek(sniffLen)
	if err != nil && err != io.EOF {
		return err
	}
	c, ok := codecFor(head)
	if !ok {
		return noImage(head)
	}
	conf, err := c.config(w.br)
	if err != nil {
		return fault(ErrFormat, "%s", reason(c.name, err))
	}
	if conf.Width <= 0 || conf.Height <= 0 {
		return fault(ErrFormat, "%s: %dx%d pixels", c.name, conf.Width, conf.Height)
	}
	if int64(conf.Width) > maxPixels/int64(conf.Height) {
		return fault(ErrTooLarge, "%s: %dx%d pixels, at most %d are allowed", c.name, conf.Width, conf.Height, maxPixels)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w.br.Reset(r)
	m, err := c.decode(w.br)
	if err != nil {
		return fault(ErrFormat, "%s", reason(c.name, err))
	}
	if b := m.Bounds(); b.Dx() != conf.Width || b.Dy() != conf.Height {
		// The first frame of a GIF may cover a part of the screen.
		screen := image.Rect(0, 0, conf.Width, conf.Height)
		if c.name != "GIF" || !b.In(screen) {
			return fault(ErrFormat, "%s: %dx%d pixels, its header says %dx%d", c.name, b.Dx(), b.Dy(), conf.Width, conf.Height)
		}
		var frame Image
		fromGo(m, &frame, nil)
		w.img.reset(frame.Channels, conf.Height, conf.Width)
		clear(w.img.Pix)
		for ch := range frame.Channels {
			src, dst := frame.plane(ch), w.img.plane(ch)
			for y := range frame.Height {
				copy(dst[(b.Min.Y+y)*conf.Width+b.Min.X:], src[y*frame.Width:(y+1)*frame.Width])
			}
		}
		return nil
	}
	rgb := toRGB(color.YCbCrToRGB)
	if c.name == "WebP" {
		rgb = limitedToRGB
	}
	fromGo(m, &w.img, rgb)
	return nil
}

// reason names the format and what its decoder said, once.
func reason(format string, err error) string {
	switch err {
	case io.EOF, io.ErrUnexpectedEOF:
		return format + ": file ends early"
	}
	text, _ := strings.CutPrefix(err.Error(), strings.ToLower(format)+": ")
	return format + ": " + text
}

// fromGo turns a decoded image into planes. Alpha is dropped, the colours
// under it stay as they were stored; of 16 bits the upper 8 are kept. Both are
// what Pillow's convert("RGB") does for images with alpha and for RGB of 16
// bits, and so what most image classifiers were trained on.
func fromGo(src image.Image, m *Image, rgb toRGB) {
	b := src.Bounds()
	w, h := b.Dx(), b.Dy()
	switch p := src.(type) {
	case *image.Gray:
		m.reset(1, h, w)
		for y := range h {
			copy(m.Pix[y*w:(y+1)*w], p.Pix[y*p.Stride:])
		}
		return
	case *image.Gray16:
		m.reset(1, h, w)
		for y := range h {
			row, dst := p.Pix[y*p.Stride:], m.Pix[y*w:(y+1)*w]
			for x := range dst {
				dst[x] = row[2*x]
			}
		}
		return
	}
	m.reset(3, h, w)
	r, g, bl := m.plane(0), m.plane(1), m.plane(2)
	step := func(pix []uint8, stride, size, depth int) {
		for y := range h {
			row := pix[y*stride : y*stride+w*size]
			for x := range w {
				q := row[x*size : x*size+size]
				r[y*w+x], g[y*w+x], bl[y*w+x] = q[0], q[depth], q[2*depth]
			}
		}
	}
	switch p := src.(type) {
	case *image.NRGBA:
		step(p.Pix, p.Stride, 4, 1)
	case *image.NRGBA64:
		step(p.Pix, p.Stride, 8, 2)
	case *image.YCbCr:
		fromYCbCr(p, r, g, bl, rgb)
	case *image.NYCbCrA:
		fromYCbCr(&p.YCbCr, r, g, bl, rgb)
	case *image.Paletted:
		var table [256][3]uint8
		for i, c := range p.Palette {
			if i < len(table) {
				n := color.NRGBAModel.Convert(c).(color.NRGBA)
				table[i] = [3]uint8{n.R, n.G, n.B}
			}
		}
		for y := range h {
			row := p.Pix[y*p.Stride : y*p.Stride+w]
			for x, v := range row {
				r[y*w+x], g[y*w+x], bl[y*w+x] = table[v][0], table[v][1], table[v][2]
			}
		}
	case *image.RGBA:
		if p.Opaque() {
			step(p.Pix, p.Stride, 4, 1)
			return
		}
		fromAny(src, r, g, bl)
	case *image.RGBA64:
		if p.Opaque() {
			step(p.Pix, p.Stride, 8, 2)
			return
		}
		fromAny(src, r, g, bl)
	default:
		fromAny(src, r, g, bl)
	}
}

func fromAny(src image.Image, r, g, bl []uint8) {
	b := src.Bounds()
	i := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			n := color.NRGBAModel.Convert(src.At(x, y)).(color.NRGBA)
			r[i], g[i], bl[i] = n.R, n.G, n.B
			i++
		}
	}
}
