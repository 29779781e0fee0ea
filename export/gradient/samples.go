package gradient

import (
	"math"
	"math/rand/v2"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// batch is the memory of one step's samples.
type batch struct {
	image, target, rows, logits *engine.Tensor
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

// crossEntropy sums -log p of the labels.
func crossEntropy(logits []float32, labels []int, k int) float64 {
	sum := 0.0
	for i, l := range labels {
		row := logits[i*k : (i+1)*k]
		top := math.Inf(-1)
		for _, v := range row {
			top = max(top, float64(v))
		}
		e := 0.0
		for _, v := range row {
			e += math.Exp(float64(v) - top)
		}
		sum += top + math.Log(e) - float64(row[l])
	}
	return sum
}

// answering serializes m for batches of n, with its logits for its only output and
// the given weights in place of those stored.
func answering(m *inspect.Model, n int, weights map[string][]float32) ([]byte, *fixed, error) {
	f, err := fixBatch(m, n)
	if err != nil {
		return nil, nil, err
	}
	g := f.draft.Model.Graph
	set := func(t *onnxpb.TensorProto, name string) {
		if v, ok := weights[name]; ok {
			f.draft.SetFloat32(t, v, t.Dims...)
		}
	}
	for _, t := range g.Initializer {
		set(t, t.GetName())
	}
	for _, node := range g.Node {
		if node.GetOpType() != "Constant" || len(node.Output) == 0 {
			continue
		}
		for _, a := range node.Attribute {
			switch a.GetName() {
			case "value":
				set(a.T, node.Output[0])
			case "value_float", "value_floats":
				if v, ok := weights[node.Output[0]]; ok {
					a.F, a.Floats = &v[0], v
					if a.GetName() == "value_float" {
						a.Floats = nil
					} else {
						a.F = nil
					}
				}
			}
		}
	}
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
