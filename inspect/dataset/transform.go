package dataset

import (
	"errors"
	"fmt"
	"math"
)

// Layout is the order of the axes of a batch.
type Layout uint8

// The layouts.
const (
	NCHW Layout = iota
	NHWC
)

func (l Layout) String() string {
	if l == NHWC {
		return "NHWC"
	}
	return "NCHW"
}

// Transform turns images into one model's input. An image that has the size of
// the input already is not resampled: its values are exactly
// (v/255 - Mean) / Std in float32. Any other image goes through Resize, then
// Crop, then is cut or scaled to Height x Width. Resampling is bilinear with
// antialias in the fixed point arithmetic of Pillow (rows, then columns), so
// that a model sees what torchvision showed it and every machine the same.
type Transform struct {
	// Mean and Std are of values in [0,1]: none, one, or one a channel.
	Mean, Std []float32
	// Resize is the length the shorter side gets. 0: no resizing by aspect.
	Resize int
	// Crop is the side of the square cut out of the centre, no larger than the
	// image. 0: after a resize the centre Height x Width is cut out, without
	// one the whole image is scaled to it.
	Crop int
	// Channels (1 or 3), Height and Width are the model's. Colour becomes grey
	// as in ITU-R BT.601, grey is repeated.
	Channels, Height, Width int
	Layout                  Layout
}

// Len returns the number of values of one image: Channels*Height*Width.
func (t *Transform) Len() int { return t.Channels * t.Height * t.Width }

// Validate checks the fields.
func (t *Transform) Validate() error {
	if t.Channels != 1 && t.Channels != 3 {
		return fmt.Errorf("transform: %d channels; expected 1 or 3", t.Channels)
	}
	if t.Height < 1 || t.Width < 1 || t.Height > maxSide || t.Width > maxSide || t.Height > DefaultMaxPixels/t.Width {
		return fmt.Errorf("transform: an input of %dx%d", t.Width, t.Height)
	}
	if t.Layout > NHWC {
		return fmt.Errorf("transform: unknown layout %d", t.Layout)
	}
	if err := (Preprocess{Mean: t.Mean, Std: t.Std}).Validate(); err != nil {
		return err
	}
	if len(t.Mean) > max(1, t.Channels) || len(t.Std) > max(1, t.Channels) {
		return fmt.Errorf("transform: %d means and %d standard deviations for %d channel; give one each", len(t.Mean), len(t.Std), t.Channels)
	}
	if t.Resize < 0 || t.Crop < 0 {
		return fmt.Errorf("transform: resize %d, crop %d", t.Resize, t.Crop)
	}
	if need := max(t.Height, t.Width); t.Resize > 0 && t.Crop == 0 && t.Resize < need {
		return fmt.Errorf("transform: resize %d does not cover an input of %dx%d", t.Resize, t.Width, t.Height)
	}
	if t.Resize > 0 && t.Crop > t.Resize {
		return fmt.Errorf("transform: crop %d is larger than resize %d", t.Crop, t.Resize)
	}
	return nil
}

// Apply writes the values of m to dst, which must hold t.Len() of them.
func (t *Transform) Apply(m *Image, dst []float32) error {
	p, err := t.prepare()
	if err != nil {
		return err
	}
	if len(dst) != t.Len() {
		return fmt.Errorf("transform: room for %d values; needs %d", len(dst), t.Len())
	}
	if (m.Channels != 1 && m.Channels != 3) || m.Height < 1 || m.Width < 1 || len(m.Pix) != m.Channels*m.Height*m.Width {
		return fmt.Errorf("transform: image of %d channels, %dx%d with %d values", m.Channels, m.Width, m.Height, len(m.Pix))
	}
	p.apply(m, dst, new(scratch))
	return nil
}

// prepared is a checked transform with its table of values.
type prepared struct {
	Transform
	value [3][256]float32
}

func (t *Transform) prepare() (*prepared, error) {
	if t == nil {
		return nil, errors.New("transform: none given")
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	p := &prepared{Transform: *t}
	at := func(list []float32, c int, none float32) float32 {
		switch len(list) {
		case 0:
			return none
		case 1:
			return list[0]
		}
		return list[c]
	}
	for c := range t.Channels {
		mean, std := at(t.Mean, c, 0), at(t.Std, c, 1)
		for v := range p.value[c] {
			p.value[c][v] = (float32(v)/255 - mean) / std
		}
	}
	return p, nil
}

func (p *prepared) apply(m *Image, dst []float32, w *scratch) {
	if p.Channels == 1 && m.Channels == 3 {
		m = grey(m, &w.tmp[2])
	}
	if m.Height != p.Height || m.Width != p.Width {
		m = p.fit(m, w)
	}
	n := p.Height * p.Width
	for c := range p.Channels {
		src, table := m.plane(min(c, m.Channels-1)), &p.value[c]
		if p.Layout == NCHW {
			out := dst[c*n:][:len(src)]
			for i, v := range src {
				out[i] = table[v]
			}
			continue
		}
		for i, v := range src {
			dst[i*p.Channels+c] = table[v]
		}
	}
}

// grey turns colour into the luma of ITU-R BT.601, held in out, with the 16 bit
// fixed point of Pillow's convert("L").
func grey(m, out *Image) *Image {
	r, g, b := m.plane(0), m.plane(1), m.plane(2)
	out.reset(1, m.Height, m.Width)
	for i := range out.Pix {
		out.Pix[i] = uint8((uint32(r[i])*19595 + uint32(g[i])*38470 + uint32(b[i])*7471 + 0x8000) >> 16)
	}
	return out
}

// fit brings an image of another size to Height x Width.
func (p *prepared) fit(m *Image, w *scratch) *Image {
	height, width := m.Height, m.Width
	if p.Resize > 0 {
		// torchvision's Resize: the longer side is rounded down.
		if width <= height {
			width, height = p.Resize, int(int64(p.Resize)*int64(height)/int64(width))
		} else {
			width, height = int(int64(p.Resize)*int64(width)/int64(height)), p.Resize
		}
	}
	ch, cw := height, width
	switch {
	case p.Crop > 0:
		ch, cw = min(p.Crop, height), min(p.Crop, width)
	case p.Resize > 0:
		ch, cw = p.Height, p.Width
	default:
		return resample(m, &w.tmp[0], w, p.Height, p.Width, window{0, 0, p.Height, p.Width})
	}
	m = resample(m, &w.tmp[0], w, height, width, window{centre(height, ch), centre(width, cw), ch, cw})
	if m.Height != p.Height || m.Width != p.Width {
		m = resample(m, &w.tmp[1], w, p.Height, p.Width, window{0, 0, p.Height, p.Width})
	}
	return m
}

// centre is where a crop of n begins in a side of size: torchvision's
// CenterCrop rounds a half to even, as Python does.
func centre(size, n int) int { return int(math.RoundToEven(float64(size-n) / 2)) }
