package report

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// randomLayer analyses a layer of random weights and label means.
func randomLayer(t testing.TB, name string, k, f, p int, theta float64) (*probe.Layer, probe.Fields) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(k), uint64(f*p)))
	x := probe.Fields{K: k, F: f, P: p, W: make([]float32, k*f*p), Means: make([]float32, k*f*p)}
	for i := range x.W {
		x.W[i], x.Means[i] = float32(rng.NormFloat64()), float32(math.Abs(rng.NormFloat64()))
	}
	return analysed(t, name, x, theta), x
}

func analysed(t testing.TB, name string, x probe.Fields, theta float64) *probe.Layer {
	t.Helper()
	filters, err := afcc.AnalyzeLayer(context.Background(), x.W, x.Means, x.K, x.F, x.P, afcc.Options{Theta: theta})
	if err != nil {
		t.Fatal(err)
	}
	return &probe.Layer{Tap: probe.Tap{Layers: []string{name}, Tensor: name, Op: "Conv", Filters: x.F, Height: 1, Width: x.P, Pool: 1}, Filters: filters, Stats: afcc.Summarize(filters, x.K, theta)}
}

func unpacked(t testing.TB, packed []byte) []byte {
	t.Helper()
	b, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever form a matrix is kept in, its clipped matrix is that of package afcc.
func TestPicturesClipExactly(t *testing.T) {
	for _, c := range []struct {
		k, p  int
		theta float64
		codes bool
	}{{40, 1, 0.3, false}, {40, 9, 0.3, true}, {12, 16, 0, true}, {12, 16, 0.99, true}, {7, 1, 0.1, true}, {100, 4, 0.25, false}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			const filters = 9
			l, x := randomLayer(t, "l", c.k, filters, c.p, c.theta)
			p := NewPictures(0)
			if err := p.Add(l, x); err != nil {
				t.Fatal(err)
			}
			kept := p.layer("l").filters
			if len(kept) != filters {
				t.Fatalf("%d filters are kept", len(kept))
			}
			for _, pic := range kept {
				if pic.codes != c.codes {
					t.Fatalf("codes: %v", pic.codes)
				}
				m := x.Matrix(nil, pic.filter)
				raw := unpacked(t, pic.packed)
				top := slices.Max(m)
				if !pic.codes {
					if got := matrixOf(raw, c.k); !slices.Equal(got, m) {
						t.Errorf("filter %d: the factors give another matrix", pic.filter)
					}
					continue
				}
				if len(raw) != len(m) || pic.low != slices.Min(m) {
					t.Fatalf("filter %d: %d codes, lowest field %v, want %v", pic.filter, len(raw), pic.low, slices.Min(m))
				}
				ones := 0
				for i, v := range m {
					passes := v/top > float32(c.theta)
					if passes {
						ones++
					}
					if passes != (raw[i] >= 128) {
						t.Errorf("filter %d: field %v of %v has code %d", pic.filter, v, top, raw[i])
					}
					limit := c.theta * float64(top)
					back := float64(pic.low) + (limit-float64(pic.low))*float64(raw[i])/127
					if raw[i] >= 128 {
						back = limit + (float64(top)-limit)*float64(raw[i]-128)/127
					}
					if step := float64(top-pic.low) / 127; math.Abs(back-float64(v)) > step {
						t.Errorf("filter %d: field %v comes back as %v", pic.filter, v, back)
					}
				}
				if ones != l.Filters[pic.filter].Ones {
					t.Errorf("filter %d: %d ones, want %d", pic.filter, ones, l.Filters[pic.filter].Ones)
				}
			}
		})
	}
}

// matrixOf is what the page does with factors.
func matrixOf(raw []byte, k int) []float32 {
	n := len(raw) / 4
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(uint32(raw[i]) | uint32(raw[n+i])<<8 | uint32(raw[2*n+i])<<16 | uint32(raw[3*n+i])<<24)
	}
	p := n / 2 / k
	m := make([]float32, k*k)
	afcc.FieldMatrix(m, v[:k*p], v[k*p:], k, 1, p, 0)
	return m
}

// A field of exactly theta does not pass, and matrices without a field above 0,
// or of one value, have codes too.
func TestAppendCodes(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		m    []float32
		want []byte
		low  float32
	}{
		{[]float32{0.3, 1, 0, 0.30000004}, []byte{127, 255, 0, 128}, 0},
		{[]float32{0, 0, 0, 0}, []byte{0, 0, 0, 0}, 0},
		{[]float32{-2, -1, -1, -2}, []byte{0, 127, 127, 0}, -2},
		{[]float32{5, 5, 5, 5}, []byte{255, 255, 255, 255}, 5},
		{[]float32{-inf, -1, 1, 0}, []byte{0, 0, 255, 98}, -1},
	} {
		got, low := appendCodes(nil, c.m, 0.3)
		if !bytes.Equal(got, c.want) || low != c.low {
			t.Errorf("%v: codes %v from %v, want %v from %v", c.m, got, low, c.want, c.low)
		}
	}
}

// The budget holds, is shared evenly, and is spent on filters with many labels.
func TestPicturesBudget(t *testing.T) {
	const k = 20
	var layers []*probe.Layer
	var all []probe.Fields
	for i, f := range []int{4, 64, 32, 1} {
		l, x := randomLayer(t, fmt.Sprint(i), k, f, 16, 0.3)
		layers, all = append(layers, l), append(all, x)
	}
	collect := func(budget int64) *Pictures {
		p := NewPictures(budget)
		for i, l := range layers {
			if err := p.Add(l, all[i]); err != nil {
				t.Fatal(err)
			}
			if p.used > budget {
				t.Fatalf("%d bytes are held of %d", p.used, budget)
			}
		}
		return p
	}
	full := collect(1 << 20)
	for _, budget := range []int64{full.used, full.used - 1, full.used / 3, 4000, 2600, 500, 1} {
		p := collect(budget)
		counts := make([]int, len(layers))
		var sum int64
		for i, l := range p.layers {
			counts[i] = len(l.filters)
			var bytes int64
			for n := range l.filters {
				bytes += l.filters[n].pageBytes()
			}
			if bytes != l.bytes {
				t.Errorf("layer %d counts %d bytes of %d", i, l.bytes, bytes)
			}
			sum += bytes
			least := k
			kept := make(map[int]bool)
			for _, f := range l.filters {
				least = min(least, layers[i].Filters[f.filter].D())
				kept[f.filter] = true
			}
			for n := range layers[i].Filters {
				if f := &layers[i].Filters[n]; !kept[n] && len(kept) > 0 && f.D() > least {
					t.Errorf("budget %d: layer %d leaves out filter %d of %d labels and keeps one of %d", budget, i, n, f.D(), least)
				}
			}
		}
		if sum != p.used || sum > budget {
			t.Errorf("%d bytes, %d counted, of %d", sum, p.used, budget)
		}
		if budget == full.used && !slices.Equal(counts, []int{4, 64, 32, 1}) {
			t.Errorf("with room for all: %v", counts)
		}
		if budget >= 2600 && slices.Contains(counts, 0) {
			t.Errorf("budget %d: a layer without a picture: %v", budget, counts)
		}
		if budget == full.used/3 && (counts[0] != 4 || counts[3] != 1 || counts[1]-counts[2] > 3 || counts[2]-counts[1] > 3) {
			t.Errorf("a third of the room is shared as %v", counts)
		}
	}
}

func TestPicturesOddFilters(t *testing.T) {
	const k = 6
	x := probe.Fields{K: k, F: 3, P: 1, W: make([]float32, 3*k), Means: make([]float32, 3*k)}
	for j := range k {
		x.W[j*3], x.Means[j*3] = 1, 1
		x.W[j*3+1], x.Means[j*3+1] = -1, 1
		x.W[j*3+2], x.Means[j*3+2] = float32(math.NaN()), 1
	}
	l := analysed(t, "l", x, 0.3)
	p := NewPictures(0)
	if err := p.Add(l, x); err != nil {
		t.Fatal(err)
	}
	var kept []int
	for _, f := range p.layer("l").filters {
		kept = append(kept, f.filter)
	}
	if !slices.Equal(kept, []int{0, 1}) {
		t.Errorf("filters %v are kept; 2 is not finite", kept)
	}
	l.Filters = l.Filters[:2]
	if err := p.Add(l, x); err == nil {
		t.Error("two filters with the fields of three are taken")
	}
	if (*Pictures)(nil).layer("l") != nil || p.layer("m") != nil {
		t.Error("there is a layer that was not added")
	}
}

func TestPackRatios(t *testing.T) {
	raw := unpacked(t, packRatios([]afcc.Filter{{Ratios: []float32{1, 0.30004, -9}}, {}}, 3))
	var got []int16
	for i := 0; i < len(raw); i += 2 {
		got = append(got, int16(binary.LittleEndian.Uint16(raw[i:])))
	}
	if want := []int16{10000, 3000, -32767, -32768, -32768, -32768}; !slices.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
}

func topLayer(t testing.TB, name string, tops ...[]int) (*probe.Layer, probe.Fields) {
	l, x := randomLayer(t, name, 12, len(tops), 1, 0.3)
	for _, list := range tops {
		var top []probe.TopSample
		for _, s := range list {
			top = append(top, probe.TopSample{Sample: s, Label: s % 12, Activation: 1})
		}
		l.Top = append(l.Top, top)
	}
	return l, x
}

func plainImage(w, h int, c color.Color) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, c)
	}
	return m
}

func TestThumbnails(t *testing.T) {
	p := NewPictures(0)
	for _, tops := range [][][]int{{{7, 8, 9}, {8, 7, 1}}, {{2, 7}}} {
		l, x := topLayer(t, fmt.Sprint(len(tops)), tops...)
		if err := p.Add(l, x); err != nil {
			t.Fatal(err)
		}
	}
	want := p.wanted()
	if sorted := slices.Sorted(slices.Values(want)); !slices.Equal(sorted, []int{1, 2, 7, 8, 9}) {
		t.Fatalf("wanted %v", want)
	}
	// The first of each filter come first.
	if first := slices.Sorted(slices.Values(want[:3])); !slices.Equal(first, []int{2, 7, 8}) {
		t.Errorf("wanted first %v", first)
	}
	decode := func(s int) (image.Image, error) {
		if s == 9 {
			return nil, errors.New("broken")
		}
		return plainImage(96, 32*s, color.RGBA{uint8(s), 0, 0, 255}), nil
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if err := p.AddSamples(stopped, decode); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
	if err := p.AddSamples(context.Background(), decode); err != nil {
		t.Fatal(err)
	}
	if len(p.thumbs) != 4 || p.thumbs[9] != nil {
		t.Fatalf("%d thumbnails", len(p.thumbs))
	}
	for s, b := range p.thumbs {
		m, _, err := image.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if side := max(m.Bounds().Dx(), m.Bounds().Dy()); side != ThumbnailSide {
			t.Errorf("sample %d: %v", s, m.Bounds())
		}
		if r, g, _, _ := m.At(m.Bounds().Dx()/2, 3).RGBA(); int(r>>8) != s || g != 0 {
			t.Errorf("sample %d: red %d, green %d", s, r>>8, g>>8)
		}
	}
	if thumbnail(image.NewRGBA(image.Rectangle{})) != nil {
		t.Error("an image without pixels has a thumbnail")
	}
	if m, _, err := image.Decode(bytes.NewReader(thumbnail(plainImage(500, 1, color.White)))); err != nil || m.Bounds().Dy() != 1 {
		t.Errorf("a thin image: %v", err)
	}
}

func TestThumbnailBudget(t *testing.T) {
	var tops [][]int
	for i := range 200 {
		tops = append(tops, []int{i, i + 200})
	}
	l, x := topLayer(t, "l", tops...)
	rng := rand.New(rand.NewPCG(1, 1))
	noise := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range noise.Pix {
		noise.Pix[i] = byte(rng.Uint32())
	}
	p := NewPictures(60_000)
	if err := p.Add(l, x); err != nil {
		t.Fatal(err)
	}
	if p.used > 45_000 {
		t.Errorf("matrices take %d of 60,000 bytes, a quarter is for thumbnails", p.used)
	}
	if err := p.AddSamples(context.Background(), func(int) (image.Image, error) { return noise, nil }); err != nil {
		t.Fatal(err)
	}
	if p.used+p.thumbBytes > 60_000 || p.thumbBytes < 10_000 {
		t.Errorf("%d bytes of matrices, %d of thumbnails", p.used, p.thumbBytes)
	}
	for s := range p.thumbs {
		if s >= 200 {
			t.Errorf("the second sample %d of a filter is there, not all first ones are", s)
		}
	}
}

func BenchmarkPicturesAdd(b *testing.B) {
	for _, c := range []struct{ k, f, p int }{{100, 512, 16}, {100, 512, 1}, {1000, 32, 1}} {
		b.Run(fmt.Sprintf("K=%d,F=%d,P=%d", c.k, c.f, c.p), func(b *testing.B) {
			l, x := randomLayer(b, "l", c.k, c.f, c.p, 0.3)
			b.ReportAllocs()
			for b.Loop() {
				if err := NewPictures(0).Add(l, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
