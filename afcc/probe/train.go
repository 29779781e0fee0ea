package probe

import (
	"context"
	"maps"
	"strconv"

	"github.com/filterlens/filterlens/inspect/engine"
)

// holder is a session of an engine that can keep tensors where it computes (ort);
// its methods are described there.
type holder interface {
	Hold(fixed map[string]*engine.Tensor, carry map[string]string) error
	Held(ctx context.Context) (map[string]*engine.Tensor, error)
	Put(values map[string]*engine.Tensor) error
}

// holderOf returns a session that is worth holding tensors on: one that computes
// elsewhere than in the processor's memory, so that all it is given travels. It is
// nil for others.
func (p *measurer) holderOf(s engine.Session) holder {
	if p.eng.Provider() == "cpu" && !p.hold {
		return nil
	}
	h, _ := s.(holder)
	return h
}

// holdFixed has the inputs in fixed feed all runs of a session. It returns those that
// every run must still be given. The tensors may not change while the session is
// used.
func (p *measurer) holdFixed(s engine.Session, fixed map[string]*engine.Tensor) (given map[string]*engine.Tensor, err error) {
	h := p.holderOf(s)
	if h == nil {
		return fixed, nil
	}
	return nil, h.Hold(fixed, nil)
}

// A trainer takes training steps of one or more heads on one session, whose graph
// it adds them to: add, then for each epoch begin, for each batch feed and took
// around the run, and end.
//
// The state of a head is in head.w, head.z and head.loss after begin and before the
// first run, and again after end: training can go on from there with begin of the
// next epoch, given nothing but these. Between runs of an epoch sync brings w and z
// up to date, and seen and trainer.loss are what head.loss will be made of.
type trainer struct {
	p     *measurer
	sess  engine.Session
	heads []*head
	// fixed feeds inputs that do not change.
	fixed map[string]*engine.Tensor

	inputs  stepInputs
	names   []headNames
	tensors stepTensors
	rate    float64
	// held is the session where weights and points stay there, else nil.
	held holder
	// loss sums the cross-entropy of each head over the seen samples of the epoch.
	loss []float64
	seen int
}

// add adds a step of every head to a graph; features returns the tensor (B x D) that
// a head reads.
func (t *trainer) add(b *builder, features func(h *head) string) {
	t.inputs = b.newStepInputs(t.p.k)
	t.names = make([]headNames, len(t.heads))
	for i, h := range t.heads {
		t.names[i] = b.step(features(h), t.inputs, t.p.k, h.d(), strconv.Itoa(i), h.scale, t.p.opt.Recipe)
	}
	t.tensors.k = t.p.k
}

// begin prepares the session and the heads for an epoch, counted from 0. Where
// the attempt was interrupted the heads are somewhere within the epoch.
func (t *trainer) begin(epoch int, a attempt) error {
	r := t.p.opt.Recipe
	t.rate = r.rate(epoch)
	t.loss, t.seen = make([]float64, len(t.heads)), 0
	if a.at != nil {
		copy(t.loss, a.loss)
		t.seen = a.at.Seen
	} else if epoch > 0 {
		for _, h := range t.heads {
			h.slow(r.Decay, r)
		}
	}
	first := t.held == nil
	if t.held = t.p.holderOf(t.sess); t.held == nil {
		for _, h := range t.heads {
			if h.w2 == nil {
				h.w2, h.z2 = make([]float32, len(h.w)), make([]float32, len(h.z))
			}
		}
		return nil
	}
	state, carry := map[string]*engine.Tensor{}, map[string]string{}
	for i, h := range t.heads {
		n := t.names[i]
		t.give(h, n, state)
		carry[n.newWeight], carry[n.newPoint] = n.weight, n.point
	}
	if !first {
		return t.held.Put(state) // what is fixed stays where it is
	}
	maps.Copy(state, t.fixed)
	return t.held.Hold(state, carry)
}

// give adds a head's state to the inputs of a step.
func (t *trainer) give(h *head, n headNames, in map[string]*engine.Tensor) {
	k, d := int64(t.p.k), int64(h.d())
	in[n.weight], in[n.point] = engine.NewFloat32(h.w, k, d), engine.NewFloat32(h.z, k, d)
}

// feed adds what a step on samples of these labels needs to the inputs and outputs
// of a run.
func (t *trainer) feed(labels []int, in, out map[string]*engine.Tensor) {
	t.tensors.feed(t.inputs, labels, t.rate, t.p.opt.Recipe, in)
	if t.held == nil {
		maps.Copy(in, t.fixed)
	}
	for i, h := range t.heads {
		n := t.names[i]
		out[n.loss] = nil
		if t.held == nil {
			k, d := int64(t.p.k), int64(h.d())
			t.give(h, n, in)
			out[n.newWeight], out[n.newPoint] = engine.NewFloat32(h.w2, k, d), engine.NewFloat32(h.z2, k, d)
		}
	}
}

// took notes the outputs of a run on n samples.
func (t *trainer) took(n int, out map[string]*engine.Tensor) {
	for i, h := range t.heads {
		t.loss[i] += float64(out[t.names[i].loss].Float32()[0]) * float64(n)
		if t.held == nil {
			h.w, h.w2 = h.w2, h.w
			h.z, h.z2 = h.z2, h.z
		}
	}
	t.seen += n
}

// sync reads the state of the heads from the session, if it is held there.
func (t *trainer) sync(ctx context.Context) error {
	if t.held == nil {
		return nil
	}
	held, err := t.held.Held(ctx)
	if err != nil {
		return err
	}
	for i, h := range t.heads {
		n := t.names[i]
		h.w, h.z = held[n.weight].Float32(), held[n.point].Float32()
	}
	return nil
}

// end completes an epoch.
func (t *trainer) end(ctx context.Context) error {
	for i, h := range t.heads {
		h.loss = t.loss[i] / float64(max(t.seen, 1))
	}
	return t.sync(ctx)
}

// slow prepares a head for a learning rate that is smaller by factor: the
// velocity stays, so the point moves towards where a head at rest has it.
func (h *head) slow(factor float64, r Recipe) {
	f, m := float32(factor), float32(1+r.Momentum)
	for i, w := range h.w {
		rest := m * w
		h.z[i] = rest + f*(h.z[i]-rest)
	}
}

// rate returns the learning rate of an epoch, counted from 0.
func (r Recipe) rate(epoch int) float64 {
	rate := r.LearningRate
	for range epoch {
		rate *= r.Decay
	}
	return rate
}

// stepTensors holds the small inputs of a training step.
type stepTensors struct {
	k      int
	onehot []float32
	rows   []float32
}

func (s *stepTensors) feed(si stepInputs, labels []int, rate float64, rec Recipe, in map[string]*engine.Tensor) {
	n := len(labels)
	if cap(s.rows) < n {
		s.onehot, s.rows = make([]float32, n*s.k), make([]float32, n)
	}
	y, r := s.onehot[:n*s.k], s.rows[:n]
	clear(y)
	for i, l := range labels {
		y[i*s.k+l] = 1
		r[i] = 1 / float32(n)
	}
	in[si.onehot] = engine.NewFloat32(y, int64(n), int64(s.k))
	in[si.rows] = engine.NewFloat32(r, int64(n), 1)
	in[si.pull] = engine.NewFloat32([]float32{float32(-(1 + rec.Momentum) * rate)})
	in[si.keep] = engine.NewFloat32([]float32{float32((1 + rec.Momentum) * (1 - rate*rec.L2))})
}
