package probe

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/inspect/dataset"
)

// resNet50 returns taps of the sizes of ResNet-50 at 224 x 224 pixels.
func resNet50() []*Tap {
	taps := []*Tap{{Filters: 64, Height: 56, Width: 56}}
	side, width := 56, 64
	for _, blocks := range []int{3, 4, 6, 3} {
		for range blocks {
			for _, f := range []int{width, width, 4 * width} {
				taps = append(taps, &Tap{Filters: f, Height: side, Width: side})
			}
		}
		side, width = side/2, 2*width
	}
	return append(taps, &Tap{Filters: 2048, Height: 1, Width: 1})
}

func vgg16() []*Tap {
	var taps []*Tap
	for _, s := range [][2]int{{64, 224}, {64, 112}, {128, 112}, {128, 56}, {256, 56}, {256, 28}, {512, 28}, {512, 14}, {512, 7}, {4096, 1}, {4096, 1}} {
		taps = append(taps, &Tap{Filters: s[0], Height: s[1], Width: s[1]})
	}
	return taps
}

// TestMemoryHeld adds up what the plan holds at any time. The sizes of what is
// held are written out here once more: weights and label means of a group
// (float32, K x D each) with sums in float64 and float32 on the way, and while
// heads are trained weights and point, twice, and the features.
func TestMemoryHeld(t *testing.T) {
	for _, c := range []struct {
		name   string
		taps   []*Tap
		k, fit int
		memory int64
		fixed  bool
	}{
		{"ResNet-50, 1,000 labels", resNet50(), 1000, 50_000, DefaultMemory, false},
		{"ResNet-50, 1,000 labels, 1 GiB", resNet50(), 1000, 50_000, 1 << 30, false},
		{"ResNet-50, one sample at a time", resNet50(), 1000, 2_000, DefaultMemory, true},
		{"ResNet-50, 10 labels", resNet50(), 10, 500, DefaultMemory, false},
		{"VGG-16, 1,000 labels", vgg16(), 1000, 20_000, DefaultMemory, false},
		{"VGG-16, 2 labels", vgg16(), 2, 100_000, 1 << 26, false},
		{"the largest tap", []*Tap{{Filters: 1, Height: 1 << 16, Width: 1 << 16}, {Filters: 3, Height: 2, Width: 2}}, 1000, 50_000, DefaultMemory, false},
		{"the largest tap and most labels", []*Tap{{Filters: 64, Height: 1 << 13, Width: 1 << 13}}, maxLabels, 50_000, DefaultMemory, false},
		{"the largest tap, one sample at a time", []*Tap{{Filters: 16, Height: 1 << 14, Width: 1 << 14}}, 1000, 10_000, DefaultMemory, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &measurer{k: c.k, fixed: map[bool]int{true: 1}[c.fixed], opt: Options{Memory: c.memory}}
			p.fit = dataset.Split{Index: make([]int, c.fit)}
			var heads []*head
			for i, tap := range c.taps {
				tap.Layers, tap.Pool = []string{fmt.Sprint("l", i)}, 1
				heads = append(heads, &head{tap: tap, i: uint64(i)})
			}
			groups, err := p.group(heads)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Concat(groups...); !slices.Equal(got, heads) {
				t.Fatalf("%d heads in groups, %d are expected", len(got), len(heads))
			}
			k, memory := float64(c.k), float64(c.memory)
			for i, g := range groups {
				held := 0.0
				for _, h := range g {
					held += float64(h.d()) * (8*k + 12)
				}
				if held > memory/2 {
					t.Errorf("group %d holds %.3g bytes of %.3g", i, held, memory)
				}
				plan := p.planFit(g)
				n := 0
				for _, pass := range plan.cached {
					features, state := 0.0, 0.0
					for _, h := range pass {
						features += 4 * float64(c.fit) * float64(h.d())
						state = max(state, 16*k*float64(h.d()))
					}
					if held+features+state > memory {
						t.Errorf("group %d: %.3g held, %.3g of features and %.3g of a head are more than %.3g", i, held, features, state, memory)
					}
					n += len(pass)
				}
				for _, pass := range plan.streamed {
					state := 0.0
					for _, h := range pass {
						state += 16 * k * float64(h.d())
					}
					if held+state > memory {
						t.Errorf("group %d: %.3g held and %.3g of heads are more than %.3g", i, held, state, memory)
					}
					if c.fixed {
						t.Error("heads are trained inside a model that takes one sample at a time")
					}
					n += len(pass)
				}
				if n != len(g) {
					t.Errorf("group %d: %d of %d heads are trained", i, n, len(g))
				}
			}
			for _, h := range heads {
				if h.tap.Pool > 1 && 16*k*float64(h.tap.Filters*(h.tap.Height/(h.tap.Pool-1))*(h.tap.Width/(h.tap.Pool-1))) <= memory/2 && !c.fixed {
					t.Errorf("%d x %d x %d is pooled by %d, less would do", h.tap.Filters, h.tap.Height, h.tap.Width, h.tap.Pool)
				}
			}
		})
	}
}

// TestFeaturesDoNotOverflow: what does not fit in 64 bits is still too large.
func TestFeaturesDoNotOverflow(t *testing.T) {
	p := &measurer{k: maxLabels, fit: dataset.Split{Index: make([]int, 100)}}
	for bits := range 61 {
		h := &head{tap: &Tap{Filters: 1 << bits, Height: 1, Width: 1, Pool: 1}}
		want := 400 * math.Pow(2, float64(bits))
		if got := float64(p.features(h)); got < min(want, math.MaxInt64/2) {
			t.Errorf("2^%d features: %g bytes, want %g", bits, got, want)
		}
		if h.d() <= maxFeatures && (p.state(h) < 0 || p.held(h) < 0 || p.state(h)+p.features(h) < 0) {
			t.Errorf("2^%d features: state %d, held %d", bits, p.state(h), p.held(h))
		}
	}
}

// TestGroupsAreFull: heads that fit together are in one group.
func TestGroupsAreFull(t *testing.T) {
	for _, c := range []struct {
		memory int64
		groups int
	}{{2 * 4 * 100 * 92, 1}, {2*4*100*92 - 2, 2}, {2 * 2 * 100 * 92, 2}, {2 * 100 * 160, 4}} {
		p := &measurer{k: 10, opt: Options{Memory: c.memory}} // 92 bytes held, 160 of state for each feature
		var heads []*head
		for range 4 {
			heads = append(heads, &head{tap: &Tap{Layers: []string{"l"}, Filters: 100, Height: 1, Width: 1, Pool: 1}})
		}
		groups, err := p.group(heads)
		if err != nil || len(groups) != c.groups {
			t.Errorf("%d bytes: %d groups, %v; want %d", c.memory, len(groups), err, c.groups)
		}
	}
}

// TestOwnHeadIsNotPooled: the classifier's weights belong to the unpooled map.
func TestOwnHeadIsNotPooled(t *testing.T) {
	p := &measurer{k: 10, opt: Options{Memory: 1000}}
	own := &head{tap: &Tap{Layers: []string{"l"}, Filters: 100, Height: 4, Width: 4, Pool: 1}, own: true}
	if _, err := p.group([]*head{own}); err != nil || own.tap.Pool != 1 {
		t.Errorf("pool %d, %v", own.tap.Pool, err)
	}
	if plan := p.planFit([]*head{own}); len(plan.cached)+len(plan.streamed) != 0 {
		t.Errorf("the model's own head is trained: %+v", plan)
	}
	trained := &head{tap: &Tap{Layers: []string{"l"}, Filters: 100, Height: 4, Width: 4, Pool: 1}}
	if _, err := p.group([]*head{trained}); err == nil {
		t.Error("a head of 100 filters was fitted into 1000 bytes")
	}
}

// TestSums: sums that cores share are those of one, to the last bit, at any length
// around that of a block.
func TestSums(t *testing.T) {
	for _, n := range []int{0, 1, 1<<18 - 1, 1 << 18, 1<<18 + 1, 1<<20 + 3, 3<<20 + 7} {
		v, sum, want := make([]float32, n), make([]float64, n), make([]float64, n)
		for i := range v {
			v[i] = float32(i%1000) - 499.7
			sum[i], want[i] = float64(i)/3, float64(i)/3+float64(v[i])
		}
		add(sum, v)
		if !slices.Equal(sum, want) {
			t.Errorf("%d numbers: another sum than one by one", n)
		}
	}
}
