package refit

import (
	"context"
	"fmt"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// moments are the sums that the regression of a layer's outputs on its inputs
// takes, over rows x of d regressors and y of f filters, from which shifts have been
// subtracted so that the sums stay small. The sums of a batch are formed by the
// engine in single precision, those over batches here in double.
type moments struct {
	groups, d, f int
	shiftX       []float64 // groups x d
	shiftY       []float64 // groups x f
	n            float64
	x            []float64 // groups x d
	y            []float64 // groups x f
	xx           []float64 // groups x d x d; of one group only what is right of the diagonal blocks
	xy           []float64 // groups x d x f
}

// gramBytes is what the moments of a site and their solution take.
func gramBytes(s *site) int64 {
	d, f, g := int64(s.d()), int64(s.f), int64(s.groups)
	return g * (16*d*d + 40*d*f)
}

// A gram forms the moments of a site.
type gram struct {
	s    *site
	m    *moments
	sess engine.Session
	// blocks cut the regressors of a single group, so that of a symmetric matrix
	// little more than one half is computed.
	blocks []int
	fixed  map[string]*engine.Tensor
	out    map[string]*engine.Tensor
	// in and onto are the lengths of the maps before and behind the layer.
	in, onto []int64
}

// gramBlock is how many rows of a Gram matrix are computed in one product.
const gramBlock = 768

// maps returns the lengths of the maps that a site reads and makes, and fails where
// the tensors are not what it says.
func (s *site) maps(x, y *engine.Tensor) (in, onto []int64, err error) {
	bad := func() ([]int64, []int64, error) {
		return nil, nil, fmt.Errorf("an input of shape %v and an output of shape %v do not fit a weight of %d groups, %d channels and %d filters", x.Shape, y.Shape, s.groups, s.channels, s.filters())
	}
	if x.Float32() == nil || y.Float32() == nil || len(x.Shape) != len(y.Shape) || len(x.Shape) < 2 || x.Shape[0] != y.Shape[0] {
		return bad()
	}
	last := len(x.Shape) - 1
	if s.channelsLast {
		in, onto = x.Shape[1:last], y.Shape[1:last]
		if x.Shape[last] != int64(s.channels) || y.Shape[last] != int64(s.filters()) || engine.Elements(in) != engine.Elements(onto) {
			return bad()
		}
		return in, onto, nil
	}
	if x.Shape[1] != int64(s.channels*s.groups) || y.Shape[1] != int64(s.filters()) {
		return bad()
	}
	return x.Shape[2:], y.Shape[2:], nil
}

// newGram prepares the sums for tensors like x and y, of the first batch, at so many
// positions of the output map.
func newGram(ctx context.Context, eng engine.Engine, s *site, x, y *engine.Tensor, positions int64) (*gram, error) {
	in, onto, err := s.maps(x, y)
	if err != nil {
		return nil, err
	}
	d, f := s.d(), s.f
	m := &moments{groups: s.groups, d: d, f: f, shiftX: make([]float64, s.groups*d), shiftY: make([]float64, s.groups*f),
		x: make([]float64, s.groups*d), y: make([]float64, s.groups*f),
		xx: make([]float64, s.groups*d*d), xy: make([]float64, s.groups*d*f)}
	g := &gram{s: s, m: m, in: in, onto: onto, fixed: map[string]*engine.Tensor{}, out: map[string]*engine.Tensor{}}
	if s.intercept() { // else the sums are wanted as they are
		mx, my := s.channelMeans(x), s.channelMeans(y)
		for i := range s.groups {
			for t := range s.taps {
				copy(m.shiftX[i*d+t*s.channels:], mx[i*s.channels:(i+1)*s.channels])
			}
		}
		copy(m.shiftY, my)
	}
	b := g.graph(engine.Elements(in), engine.Elements(onto), positions)
	bytes, err := b.d.Bytes()
	if err != nil {
		return nil, err
	}
	g.sess, err = eng.Load(ctx, engine.Model{Name: "sums of layer " + s.name, Bytes: bytes})
	return g, err
}

// channelMeans returns the mean of each channel of a tensor, rounded so that it is
// the same in single precision.
func (s *site) channelMeans(t *engine.Tensor) []float64 {
	channels, inner := t.Shape[1], int64(1)
	if s.channelsLast {
		channels = t.Shape[len(t.Shape)-1]
	} else {
		inner = engine.Elements(t.Shape[2:])
	}
	sums := make([]float64, channels)
	v := t.Float32()
	for i := 0; i < len(v); i += int(inner) {
		c := int64(i) / inner % channels
		for _, x := range v[i : i+int(inner)] {
			sums[c] += float64(x)
		}
	}
	for c := range sums {
		sums[c] = float64(float32(sums[c] * float64(channels) / float64(max(len(v), 1))))
	}
	return sums
}

// graph writes the sums of a batch. The maps have as many positions as given, of
// which so many of the output are chosen.
func (g *gram) graph(in, onto, chosen int64) *builder {
	s, m := g.s, g.m
	b := newBuilder("sums")
	d, f, groups := int64(m.d), int64(m.f), int64(m.groups)
	// rows: samples x positions, then places of the kernel x channels.
	rows := func(name string, channels, positions int64) string {
		if s.channelsLast {
			return b.node("Reshape", []string{b.input(name, onnxfile.Float, g.open(name)...), b.ints(-1, positions, channels)})
		}
		x := b.node("Reshape", []string{b.input(name, onnxfile.Float, g.open(name)...), b.ints(-1, channels, positions)})
		return b.node("Transpose", []string{x}, attrInts("perm", 0, 2, 1))
	}
	x := rows("x", int64(s.channels*s.groups), in)
	y := rows("y", int64(s.filters()), onto)
	if s.window != nil {
		// What is read beside the map is one more row, of zeros.
		x = b.node("Pad", []string{x, b.ints(0, 0, 0, 0, 1, 0)})
	}
	x = b.node("Gather", []string{x, b.input("places", onnxfile.Int64, chosen*int64(s.taps))}, attrInt("axis", 1))
	y = b.node("Gather", []string{y, b.input("chosen", onnxfile.Int64, chosen)}, attrInt("axis", 1))
	if groups == 1 {
		x = b.node("Reshape", []string{x, b.ints(-1, d)})
		y = b.node("Reshape", []string{y, b.ints(-1, f)})
		x = b.node("Sub", []string{x, b.floats(singles(m.shiftX), 1, d)})
		y = b.node("Sub", []string{y, b.floats(singles(m.shiftY), 1, f)})
		b.output("sx", "ReduceSum", []string{x, b.ints(0)}, []int64{d}, attrInt("keepdims", 0))
		b.output("sy", "ReduceSum", []string{y, b.ints(0)}, []int64{f}, attrInt("keepdims", 0))
		b.output("xy", "Gemm", []string{x, y}, []int64{d, f}, attrInt("transA", 1))
		for at := 0; at < m.d; at += gramBlock {
			g.blocks = append(g.blocks, at)
		}
		for i, at := range g.blocks {
			left, right := x, x
			if len(g.blocks) > 1 {
				to := int64(min(at+gramBlock, m.d))
				left = b.node("Slice", []string{x, b.ints(int64(at)), b.ints(to), b.ints(1)})
				if at > 0 {
					right = b.node("Slice", []string{x, b.ints(int64(at)), b.ints(d), b.ints(1)})
				}
			}
			dims := []int64{int64(min(gramBlock, m.d-at)), d - int64(at)}
			b.output(blockName(i), "Gemm", []string{left, right}, dims, attrInt("transA", 1))
			g.out[blockName(i)] = engine.NewFloat32(make([]float32, dims[0]*dims[1]), dims...)
		}
	} else {
		c, t := int64(s.channels), int64(s.taps)
		x = b.node("Reshape", []string{x, b.ints(-1, t, groups, c)})
		x = b.node("Transpose", []string{x}, attrInts("perm", 2, 0, 1, 3))
		x = b.node("Reshape", []string{x, b.ints(groups, -1, d)})
		y = b.node("Reshape", []string{y, b.ints(-1, groups, f)})
		y = b.node("Transpose", []string{y}, attrInts("perm", 1, 0, 2))
		x = b.node("Sub", []string{x, b.floats(singles(m.shiftX), groups, 1, d)})
		y = b.node("Sub", []string{y, b.floats(singles(m.shiftY), groups, 1, f)})
		b.output("sx", "ReduceSum", []string{x, b.ints(1)}, []int64{groups, d}, attrInt("keepdims", 0))
		b.output("sy", "ReduceSum", []string{y, b.ints(1)}, []int64{groups, f}, attrInt("keepdims", 0))
		left := b.node("Transpose", []string{x}, attrInts("perm", 0, 2, 1))
		b.output("xy", "MatMul", []string{left, y}, []int64{groups, d, f})
		b.output(blockName(0), "MatMul", []string{left, x}, []int64{groups, d, d})
		g.out[blockName(0)] = engine.NewFloat32(make([]float32, groups*d*d), groups, d, d)
	}
	gf := groups * f
	if groups == 1 {
		g.out["sx"] = engine.NewFloat32(make([]float32, d), d)
		g.out["sy"] = engine.NewFloat32(make([]float32, f), f)
		g.out["xy"] = engine.NewFloat32(make([]float32, d*f), d, f)
	} else {
		g.out["sx"] = engine.NewFloat32(make([]float32, groups*d), groups, d)
		g.out["sy"] = engine.NewFloat32(make([]float32, gf), groups, f)
		g.out["xy"] = engine.NewFloat32(make([]float32, d*gf), groups, d, f)
	}
	return b
}

// open returns the dimensions of x or y with the number of samples left open.
func (g *gram) open(name string) []int64 {
	maps, channels := g.in, int64(g.s.channels*g.s.groups)
	if name == "y" {
		maps, channels = g.onto, int64(g.s.filters())
	}
	dims := []int64{-1}
	if !g.s.channelsLast {
		dims = append(dims, channels)
	}
	dims = append(dims, maps...)
	if g.s.channelsLast {
		dims = append(dims, channels)
	}
	return dims
}

func blockName(i int) string { return fmt.Sprintf("xx%d", i) }

func singles(v []float64) []float32 {
	s := make([]float32, len(v))
	for i, x := range v {
		s[i] = float32(x)
	}
	return s
}

// add adds a batch, at the chosen positions of the output map.
func (g *gram) add(ctx context.Context, x, y *engine.Tensor, chosen []int64) error {
	if _, _, err := g.s.maps(x, y); err != nil {
		return err
	}
	places := chosen
	if w := g.s.window; w != nil {
		var err error
		if places, err = w.places(g.in, g.onto, chosen); err != nil {
			return &skipError{err.Error()}
		}
	}
	in := map[string]*engine.Tensor{"x": x, "y": y, "chosen": engine.NewInt64(chosen, int64(len(chosen))), "places": engine.NewInt64(places, int64(len(places)))}
	if err := g.sess.Run(ctx, in, g.out); err != nil {
		return err
	}
	m := g.m
	m.n += float64(x.Shape[0]) * float64(len(chosen))
	accumulate(m.x, g.out["sx"].Float32())
	accumulate(m.y, g.out["sy"].Float32())
	accumulate(m.xy, g.out["xy"].Float32())
	if m.groups > 1 {
		accumulate(m.xx, g.out[blockName(0)].Float32())
		return nil
	}
	for i, at := range g.blocks {
		b := g.out[blockName(i)].Float32()
		width := m.d - at
		for r := 0; r*width < len(b); r++ {
			accumulate(m.xx[(at+r)*m.d+at:(at+r+1)*m.d], b[r*width:(r+1)*width])
		}
	}
	return nil
}

func accumulate(sum []float64, v []float32) {
	sum = sum[:len(v)]
	for i, x := range v {
		sum[i] += float64(x)
	}
}

func (g *gram) close() error {
	if g == nil || g.sess == nil {
		return nil
	}
	return g.sess.Close()
}

// A system is the normal equations of a group's filters: a (d x d, symmetric) times
// the weights (d x f) is b, each divided by the number of rows. With an intercept
// they are of deviations from the means.
type system struct {
	d, f         int
	a, b         []float64
	meanX, meanY []float64
}

// system returns the equations of a group; its matrix takes the place of the sums.
func (m *moments) system(group int, intercept bool) *system {
	d, f := m.d, m.f
	s := &system{d: d, f: f, a: m.xx[group*d*d : (group+1)*d*d], b: m.xy[group*d*f : (group+1)*d*f], meanX: make([]float64, d), meanY: make([]float64, f)}
	x, y := m.x[group*d:(group+1)*d], m.y[group*f:(group+1)*f]
	for i := range x {
		row := s.a[i*d : (i+1)*d]
		for j := i; j < d; j++ {
			v := row[j] / m.n
			if intercept {
				v -= x[i] / m.n * (x[j] / m.n)
			}
			row[j] = v
		}
	}
	// Copied in tiles, for the columns are far apart.
	const tile = 64
	for i0 := 0; i0 < d; i0 += tile {
		for j0 := i0; j0 < d; j0 += tile {
			for i := i0; i < min(i0+tile, d); i++ {
				for j := max(j0, i+1); j < min(j0+tile, d); j++ {
					s.a[j*d+i] = s.a[i*d+j]
				}
			}
		}
	}
	for i := range d {
		for k := range f {
			v := s.b[i*f+k] / m.n
			if intercept {
				v -= x[i] / m.n * (y[k] / m.n)
			}
			s.b[i*f+k] = v
		}
	}
	if intercept {
		for i := range x {
			s.meanX[i] = x[i]/m.n + m.shiftX[group*d+i]
		}
		for k := range y {
			s.meanY[k] = y[k]/m.n + m.shiftY[group*f+k]
		}
	}
	return s
}
