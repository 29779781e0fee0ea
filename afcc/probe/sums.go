package probe

import (
	"context"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// graphSums adds up, inside a graph and in double precision, what it makes of the
// batches of a label, and divides by their count at the end, so that of a label and
// not of each batch F*P numbers leave the place where a session computes. The
// additions and the division are those that meansPass does otherwise.
type graphSums struct {
	fresh string // input, bool: a label begins, what was summed is forgotten
	held  holder // where the sums stay, nil for a session that is given them each time
	sums  []*graphSum
}

// A graphSum is one tensor that is summed.
type graphSum struct {
	shape []int64
	// in and out carry the sum, over has what it is divided by, mean is the quotient
	// in single precision.
	in, out, over, mean string
	sum                 *[]float64 // shape; up to date after sync
	next                []float64  // what the sum becomes, where it is not held
}

// sumsInGraph tells whether a graph of label means is to sum up itself: where the
// outputs of each run travel. Where comes with operator set 9.
func (p *measurer) sumsInGraph(b *builder) bool {
	return (p.eng.Provider() != "cpu" || p.hold) && b.opset >= 9
}

func (b *builder) newGraphSums() *graphSums {
	return &graphSums{fresh: b.input("fresh", onnxfile.DType(onnxpb.TensorProto_BOOL))}
}

// add has x summed to *sum, and the sum divided by the input over (double, of a shape
// that goes with it).
func (g *graphSums) add(b *builder, name, x, over string, sum *[]float64, shape ...int64) *graphSum {
	s := &graphSum{shape: shape, in: b.input("total."+name, onnxfile.Double, shape...), over: over, sum: sum}
	to := func(dtype onnxfile.DType, x string) string {
		return b.node("Cast", []string{x}, attrInt("to", int64(dtype)))
	}
	before := b.node("Where", []string{g.fresh, to(onnxfile.Double, b.constFloat([]float32{0})), s.in})
	s.out = b.outputAs("total'."+name, onnxfile.Double, "Add", []string{before, to(onnxfile.Double, x)}, shape)
	s.mean = b.outputOf("mean."+name, "Cast", []string{b.node("Div", []string{s.out, over})}, shape, attrInt("to", int64(onnxfile.Float)))
	g.sums = append(g.sums, s)
	return s
}

// begin has a session start from the sums that there are.
func (g *graphSums) begin(p *measurer, sess engine.Session) error {
	if g.held = p.holderOf(sess); g.held == nil {
		for _, s := range g.sums {
			s.next = make([]float64, len(*s.sum))
		}
		return nil
	}
	state, carry := map[string]*engine.Tensor{}, map[string]string{}
	for _, s := range g.sums {
		state[s.in], carry[s.out] = &engine.Tensor{Shape: s.shape, Data: *s.sum}, s.in
	}
	return g.held.Hold(state, carry)
}

// feed adds what a run needs to its inputs and outputs; fresh tells that it is the
// first of a label. What sums are divided by is the caller's to add, and the means
// where it wants them.
func (g *graphSums) feed(fresh bool, in, out map[string]*engine.Tensor) {
	in[g.fresh] = &engine.Tensor{Data: []bool{fresh}}
	if g.held != nil {
		return
	}
	for _, s := range g.sums {
		in[s.in] = &engine.Tensor{Shape: s.shape, Data: *s.sum}
		out[s.out] = &engine.Tensor{Shape: s.shape, Data: s.next}
	}
}

// took notes that a run is done.
func (g *graphSums) took() {
	if g.held != nil {
		return
	}
	for _, s := range g.sums {
		*s.sum, s.next = s.next, *s.sum
	}
}

// sync reads the sums from the session, if they are held there.
func (g *graphSums) sync(ctx context.Context) error {
	if g.held == nil {
		return nil
	}
	held, err := g.held.Held(ctx)
	if err != nil {
		return err
	}
	for _, s := range g.sums {
		*s.sum = held[s.in].Data.([]float64)
	}
	return nil
}
