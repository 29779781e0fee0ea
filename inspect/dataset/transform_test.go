package dataset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func randomImage(rng *rand.Rand, c, h, w int) *Image {
	m := new(Image)
	m.reset(c, h, w)
	for i := range m.Pix {
		m.Pix[i] = uint8(rng.Uint32())
	}
	return m
}

// slowResize is bilinear resampling with antialias, straight from its
// definition and without rounding: each output is the mean of the input under
// a triangle that is two output pixels wide, but at least two input pixels.
func slowResize(m *Image, height, width int) []float64 {
	weight := func(in, out, o, i int) float64 {
		scale := float64(in) / float64(out)
		return max(0, 1-math.Abs(float64(i)+0.5-(float64(o)+0.5)*scale)/max(scale, 1))
	}
	out := make([]float64, m.Channels*height*width)
	for c := range m.Channels {
		for y := range height {
			for x := range width {
				sum, all := 0.0, 0.0
				for iy := range m.Height {
					for ix := range m.Width {
						w := weight(m.Height, height, y, iy) * weight(m.Width, width, x, ix)
						sum += w * float64(m.plane(c)[iy*m.Width+ix])
						all += w
					}
				}
				out[(c*height+y)*width+x] = sum / all
			}
		}
	}
	return out
}

func TestResampleAgainstSlow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		h, w := 1+rng.IntN(24), 1+rng.IntN(24)
		height, width := 1+rng.IntN(24), 1+rng.IntN(24)
		if n%5 == 0 {
			height = h // only one axis
		}
		m := randomImage(rng, 1+2*(n%2), h, w)
		want := slowResize(m, height, width)
		got := resample(m, new(Image), new(scratch), height, width, window{0, 0, height, width})
		if got.Height != height || got.Width != width || got.Channels != m.Channels {
			t.Fatalf("%dx%d, want %dx%d", got.Width, got.Height, width, height)
		}
		for i, v := range got.Pix {
			// Two roundings to 8 bits of half a step each.
			if d := math.Abs(float64(v) - want[i]); d > 1.01 {
				t.Fatalf("%dx%d to %dx%d: value %d is %d, want %.3f", w, h, width, height, i, v, want[i])
			}
		}
		// A window is what cutting the whole would give.
		win := window{y: rng.IntN(height), x: rng.IntN(width)}
		win.height, win.width = 1+rng.IntN(height-win.y), 1+rng.IntN(width-win.x)
		part := resample(m, new(Image), new(scratch), height, width, win)
		for c := range m.Channels {
			for y := range win.height {
				for x := range win.width {
					if g, w := part.plane(c)[y*win.width+x], got.plane(c)[(y+win.y)*width+x+win.x]; g != w {
						t.Fatalf("window %+v of %dx%d at %d,%d: %d, want %d", win, width, height, x, y, g, w)
					}
				}
			}
		}
	}
}

func TestApplyExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	m := randomImage(rng, 3, 4, 5)
	mean, std := []float32{0.485, 0.456, 0.406}, []float32{0.229, 0.224, 0.225}
	for _, layout := range []Layout{NCHW, NHWC} {
		// Resize and crop do not touch an image of the input's size.
		tr := &Transform{Mean: mean, Std: std, Resize: 8, Channels: 3, Height: 4, Width: 5, Layout: layout}
		dst := make([]float32, tr.Len())
		if err := tr.Apply(m, dst); err != nil {
			t.Fatal(err)
		}
		for c := range 3 {
			for i := range 20 {
				at := c*20 + i
				if layout == NHWC {
					at = i*3 + c
				}
				if want := (float32(m.plane(c)[i])/255 - mean[c]) / std[c]; dst[at] != want {
					t.Fatalf("%v: channel %d value %d is %v, want %v", layout, c, i, dst[at], want)
				}
			}
		}
	}
}

func TestApplyChannels(t *testing.T) {
	rgb := &Image{Channels: 3, Height: 1, Width: 4, Pix: []uint8{255, 0, 0, 77 /**/, 0, 255, 0, 77 /**/, 0, 0, 255, 77}}
	grey := &Image{Channels: 1, Height: 1, Width: 2, Pix: []uint8{51, 255}}
	dst := make([]float32, 4)
	if err := (&Transform{Channels: 1, Height: 1, Width: 4}).Apply(rgb, dst); err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{76, 150, 29, 77} { // 255 times .299, .587, .114
		if dst[i] != want/255 {
			t.Errorf("luma %d is %v, want %v", i, dst[i]*255, want)
		}
	}
	dst = make([]float32, 6)
	if err := (&Transform{Channels: 3, Height: 1, Width: 2, Layout: NHWC, Mean: []float32{0, 0, 1}}).Apply(grey, dst); err != nil {
		t.Fatal(err)
	}
	if want := [6]float32{0.2, 0.2, -0.8, 1, 1, 0}; [6]float32(dst) != want {
		t.Errorf("grey in three channels is %v, want %v", dst, want)
	}
}

// TestApplyGeometry finds out which part of an image is seen: columns and rows
// carry their own number.
func TestApplyGeometry(t *testing.T) {
	ramp := new(Image)
	ramp.reset(1, 10, 21)
	for i := range ramp.Pix {
		ramp.Pix[i] = uint8(i % 21)
	}
	for _, test := range []struct {
		name  string
		tr    Transform
		first float32
		last  float32
	}{
		{"crop", Transform{Crop: 4, Channels: 1, Height: 4, Width: 4}, 8, 11},           // 8.5, half to even
		{"crop larger", Transform{Crop: 50, Channels: 1, Height: 10, Width: 21}, 0, 20}, // as it is
		{"resize", Transform{Resize: 10, Channels: 1, Height: 10, Width: 10}, 6, 15},    // 5.5, half to even
		{"resize crop", Transform{Resize: 10, Crop: 6, Channels: 1, Height: 6, Width: 6}, 8, 13},
		{"stretch", Transform{Channels: 1, Height: 10, Width: 7}, 1, 19}, // three columns each
	} {
		dst := make([]float32, test.tr.Len())
		if err := test.tr.Apply(ramp, dst); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		first, last := dst[0]*255, dst[test.tr.Width-1]*255
		if math.Abs(float64(first-test.first)) > 0.5 || math.Abs(float64(last-test.last)) > 0.5 {
			t.Errorf("%s: columns %v to %v, want %v to %v", test.name, first, last, test.first, test.last)
		}
	}
	// A side that would become gigantic costs only what is cut out of it.
	line := &Image{Channels: 1, Height: 1, Width: 1 << 20, Pix: make([]uint8, 1<<20)}
	tr := Transform{Resize: 256, Channels: 1, Height: 224, Width: 224}
	if err := tr.Apply(line, make([]float32, tr.Len())); err != nil {
		t.Error(err)
	}
}

func TestTransformErrors(t *testing.T) {
	ok := Transform{Channels: 3, Height: 2, Width: 2}
	m := &Image{Channels: 3, Height: 2, Width: 2, Pix: make([]uint8, 12)}
	if err := ok.Apply(m, make([]float32, 12)); err != nil {
		t.Fatal(err)
	}
	for name, tr := range map[string]Transform{
		"no size":          {Channels: 3},
		"channels":         {Channels: 2, Height: 2, Width: 2},
		"means":            {Channels: 1, Height: 2, Width: 2, Mean: []float32{0, 0, 0}},
		"std 0":            {Channels: 3, Height: 2, Width: 2, Std: []float32{0}},
		"not finite":       {Channels: 3, Height: 2, Width: 2, Mean: []float32{float32(math.NaN())}},
		"uncovered":        {Channels: 3, Height: 2, Width: 2, Resize: 1},
		"crop over resize": {Channels: 3, Height: 2, Width: 2, Resize: 2, Crop: 3},
		"layout":           {Channels: 3, Height: 2, Width: 2, Layout: 7},
		"gigantic":         {Channels: 3, Height: 1 << 40, Width: 1 << 40},
	} {
		if err := tr.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := ok.Apply(m, make([]float32, 11)); err == nil {
		t.Error("too little room: no error")
	}
	if err := ok.Apply(&Image{Channels: 3, Height: 2, Width: 2}, make([]float32, 12)); err == nil {
		t.Error("image without pixels: no error")
	}
}

func BenchmarkApply(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	p, err := Preset("imagenet")
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range [][4]int{{32, 32, 32, 32}, {375, 500, 224, 224}, {28, 28, 224, 224}} {
		tr, err := p.Transform([]int64{-1, 3, int64(size[2]), int64(size[3])})
		if err != nil {
			b.Fatal(err)
		}
		pr, err := tr.prepare()
		if err != nil {
			b.Fatal(err)
		}
		m := randomImage(rng, 3, size[0], size[1])
		b.Run(fmt.Sprintf("%dx%dto%dx%d", size[1], size[0], size[3], size[2]), func(b *testing.B) {
			dst, w := make([]float32, tr.Len()), new(scratch)
			for b.Loop() {
				pr.apply(m, dst, w)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
