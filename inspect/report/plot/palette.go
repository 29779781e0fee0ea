package plot

import (
	"image"
	"image/color"
	"math"
)

// diverging has 201 colours for values from -1 to 1: blue below 0, white at 0, red
// above. Between the anchors, which are Brewer's RdBu (ColorBrewer 2.0, safe for
// colour-blind people), it is linear.
func diverging() color.Palette {
	return gradient(201, []color.NRGBA{
		{0x05, 0x30, 0x61, 255}, {0x21, 0x66, 0xac, 255}, {0x43, 0x93, 0xc3, 255}, {0x92, 0xc5, 0xde, 255}, {0xd1, 0xe5, 0xf0, 255},
		{0xff, 0xff, 0xff, 255},
		{0xfd, 0xdb, 0xc7, 255}, {0xf4, 0xa5, 0x82, 255}, {0xd6, 0x60, 0x4d, 255}, {0xb2, 0x18, 0x2b, 255}, {0x67, 0x00, 0x1f, 255},
	})
}

// viridis has n colours from dark to light (van der Walt, Smith, matplotlib), the
// yellow end left out, which is hard to see on white.
func viridis(n int) color.Palette {
	return gradient(n, []color.NRGBA{
		{0x44, 0x01, 0x54, 255}, {0x47, 0x2d, 0x7b, 255}, {0x3b, 0x52, 0x8b, 255}, {0x2c, 0x72, 0x8e, 255},
		{0x21, 0x91, 0x8c, 255}, {0x28, 0xae, 0x80, 255}, {0x5e, 0xc9, 0x62, 255}, {0xad, 0xdc, 0x30, 255},
	})
}

func gradient(n int, anchors []color.NRGBA) color.Palette {
	p := make(color.Palette, n)
	for i := range p {
		at := 0.0
		if n > 1 {
			at = float64(i) / float64(n-1) * float64(len(anchors)-1)
		}
		lo := min(int(at), len(anchors)-2)
		t := at - float64(lo)
		mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-t) + float64(b)*t)) }
		a, b := anchors[lo], anchors[lo+1]
		p[i] = color.NRGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
	}
	return p
}

// missing is the colour of what has no value.
var missing = color.NRGBA{0xcc, 0xcc, 0xcc, 0xff}

// field returns the matrix of v (rows x columns) as an image in the colours of
// diverging; values beyond -1 and 1 have those of the ends, what is no number has
// the last colour, missing.
func field(rows, columns int, v func(i, j int) float32) *image.Paletted {
	pal := append(diverging(), missing)
	img := image.NewPaletted(image.Rect(0, 0, columns, rows), pal)
	for i := range rows {
		line := img.Pix[i*img.Stride:]
		for j := range columns {
			line[j] = shade(v(i, j), len(pal)-1)
		}
	}
	return img
}

// shade returns the number of a value's colour of n for -1 to 1, n for no number.
func shade(v float32, n int) uint8 {
	if v != v {
		return uint8(n)
	}
	return uint8(math.Round((float64(max(-1, min(1, v))) + 1) / 2 * float64(n-1)))
}
