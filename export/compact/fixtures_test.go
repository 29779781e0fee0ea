package compact

import (
	"math/rand/v2"
	"testing"

	"github.com/filterlens/filterlens/inspect"
)

// masked returns a model with kernels and whole filters of its convolutions and
// matrix products set to zero at random.
func masked(t testing.TB, b []byte, seed uint64, kernels, filters float64) []byte {
	t.Helper()
	m := read(t, b)
	d := m.Handle.Draft()
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range m.Layers {
		l := &m.Layers[i]
		st, ok := m.LayerWeight(l)
		if !ok || (l.Op != "Conv" && l.Op != "Gemm") {
			continue
		}
		dims := st.Tensor.Dims()
		inner := int64(1)
		for _, x := range dims[2:] {
			inner *= x
		}
		dropped := make([]bool, dims[0])
		for i := range dropped {
			dropped[i] = l.OutTensor != m.Outputs[0].Name && r.Float64() < filters
		}
		zero := make([]bool, dims[0]*dims[1])
		for i := range zero {
			zero[i] = dropped[int64(i)/dims[1]] || r.Float64() < kernels
		}
		c, err := st.Tensor.Raw(func(b []byte, off int64) {
			for e := range len(b) / 4 {
				if zero[(off/4+int64(e))/inner] {
					clear(b[4*e : 4*e+4])
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		d.SetRaw(d.Initializer(st.Name), c)
	}
	out, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFixtures compacts trained models with kernels and filters set to zero.
func TestFixtures(t *testing.T) {
	list := engines(t)
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-glyphs20.onnx", "efficientnet-b0-bn-glyphs20.onnx"} {
		_, b := fixture(t, name)
		for _, c := range []struct{ kernels, filters float64 }{{0, 0}, {0, 0.5}, {0.5, 0.2}, {0.9, 0.3}, {1, 1}} {
			source := masked(t, b, 11, c.kernels, c.filters)
			for _, opt := range []Options{{}, {RoundTo: 8}} {
				p, _ := compacted(t, list, read(t, source), source, opt)
				t.Logf("%s, %v of kernels, %v of filters, round %d: %d of %d channels, bytes %d to %d, MACs %d to %d, %d barriers",
					name, c.kernels, c.filters, opt.RoundTo, p.Removed, p.Channels, p.Before.Bytes, p.After.Bytes, *p.Before.MACs, *p.After.MACs, len(p.Barriers))
				if c.filters >= 0.5 && opt.RoundTo == 0 && p.Removed == 0 {
					t.Error("nothing went")
				}
				for _, x := range p.Barriers {
					t.Log(x)
				}
			}
		}
	}
}

// half asks for every other channel of each group that is not fixed.
func half(t testing.TB, m *inspect.Model) map[string][]int {
	t.Helper()
	groups, err := Groups(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return halfOf(groups)
}

func halfOf(groups []Group) map[string][]int {
	remove := map[string][]int{}
	for _, g := range groups {
		if g.Fixed != "" || len(g.Makers) == 0 {
			continue
		}
		for c := 1; c < g.Size; c += 2 {
			remove[g.Makers[0].Layer] = append(remove[g.Makers[0].Layer], g.Makers[0].Filters(c)...)
		}
	}
	return remove
}
