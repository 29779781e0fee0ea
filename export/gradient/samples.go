package gradient

import (
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// batch is the memory of one step's samples.
type batch struct {
	image, target, rows, logits *engine.Tensor
	// pure are images and targets before they are mixed.
	pure [2][]float32
}

func newBatch(g *Graph) *batch {
	n, k := int64(g.Batch), int64(g.Labels)
	return &batch{
		image:  engine.NewFloat32(make([]float32, n*elements(g.Dims)), append([]int64{n}, g.Dims...)...),
		target: engine.NewFloat32(make([]float32, n*k), n, k),
		rows:   engine.NewFloat32(make([]float32, n), n, 1),
		logits: engine.NewFloat32(make([]float32, n*k), n, k),
	}
}

// fill takes over samples; draw writes the image of one. Rows that are left over
// repeat the first sample and count for nothing.
func (b *batch) fill(s dataset.Batch, tr *dataset.Transform, draw func(i int, x []float32)) {
	x, y, r := b.image.Float32(), b.target.Float32(), b.rows.Float32()
	size, k := tr.Len(), int(b.target.Shape[1])
	clear(y)
	clear(r)
	for i, l := range s.Labels {
		draw(i, x[i*size:(i+1)*size])
		y[i*k+l] = 1
		r[i] = 1 / float32(len(s.Labels))
	}
	for i := len(s.Labels); i < len(r); i++ {
		copy(x[i*size:(i+1)*size], x[:size])
	}
}

// mix makes each of the first n images and targets l of itself and 1-l of another one,
// with l of Beta(a, a).
func (b *batch) mix(n int, a float64, r *rand.Rand) {
	order := r.Perm(n)
	shares := make([]float32, n)
	for i := range shares {
		shares[i] = float32(beta(a, r))
	}
	for k, t := range []*engine.Tensor{b.image, b.target} {
		x := t.Float32()
		b.pure[k] = append(b.pure[k][:0], x...)
		size := len(x) / int(t.Shape[0])
		for i, j := range order {
			own, other := b.pure[k][i*size:(i+1)*size], b.pure[k][j*size:(j+1)*size]
			for p, v := range own {
				x[i*size+p] = other[p] + shares[i]*(v-other[p])
			}
		}
	}
}

// beta draws from Beta(a, a): the share of one of two gamma variates.
func beta(a float64, r *rand.Rand) float64 {
	if a == 1 {
		return r.Float64()
	}
	x, y := distuv.Gamma{Alpha: a, Beta: 1, Src: r}.Rand(), distuv.Gamma{Alpha: a, Beta: 1, Src: r}.Rand()
	if x+y == 0 {
		return float64(r.IntN(2)) // a is so small that one share is all
	}
	return x / (x + y)
}

// augment writes the sample from to x, moved and mirrored as the seed says. The same
// sample of the same epoch is always treated alike, whatever batch it is in.
func (t *training) augment(x, from []float32, epoch, sample int) {
	r := rand.New(rand.NewPCG(t.opt.Seed^0x61756764, uint64(epoch)<<40^uint64(sample)))
	dy, dx := r.IntN(2*t.opt.Shift+1)-t.opt.Shift, r.IntN(2*t.opt.Shift+1)-t.opt.Shift
	flip := t.opt.Flip && r.IntN(2) == 1
	if dy == 0 && dx == 0 && !flip {
		copy(x, from)
		return
	}
	tr := t.tr
	pixel, plane := 1, tr.Height*tr.Width
	if tr.Layout == dataset.NHWC {
		pixel, plane = tr.Channels, 1
	}
	for c := range tr.Channels {
		black := black(tr, c)
		for i := range tr.Height {
			for j := range tr.Width {
				si, sj := i+dy, j+dx
				if flip {
					sj = tr.Width - 1 - sj
				}
				v := black
				if t.opt.Edge {
					si, sj = min(max(si, 0), tr.Height-1), min(max(sj, 0), tr.Width-1)
				}
				if si >= 0 && si < tr.Height && sj >= 0 && sj < tr.Width {
					v = from[c*plane+(si*tr.Width+sj)*pixel]
				}
				x[c*plane+(i*tr.Width+j)*pixel] = v
			}
		}
	}
}

// black is the value of a black pixel.
func black(tr *dataset.Transform, c int) float32 {
	at := func(list []float32, none float32) float32 {
		switch len(list) {
		case 0:
			return none
		case 1:
			return list[0]
		}
		return list[c]
	}
	return -at(tr.Mean, 0) / at(tr.Std, 1)
}

// correct counts the rows whose largest logit is that of their label.
func correct(logits []float32, labels []int, k int) int {
	n := 0
	for i, l := range labels {
		row := logits[i*k : (i+1)*k]
		best := 0
		for j, v := range row {
			if v > row[best] {
				best = j
			}
		}
		if best == l && row[best] == row[best] {
			n++
		}
	}
	return n
}

// answering serializes m for batches of n, with its logits for its only output.
func answering(m *inspect.Model, n int) ([]byte, *fixed, error) {
	f, err := fixBatch(m, n)
	if err != nil {
		return nil, nil, err
	}
	g := f.draft.Model.Graph
	dims, _ := f.graph.Shape(f.logits).Fixed()
	g.Output = []*onnxpb.ValueInfoProto{valueInfo(f.logits, dims)}
	g.Node = nil
	for _, node := range f.nodes {
		g.Node = append(g.Node, node.Proto)
	}
	if err := f.draft.InlineExternal(); err != nil {
		return nil, nil, err
	}
	bytes, err := f.draft.Bytes()
	return bytes, f, err
}
