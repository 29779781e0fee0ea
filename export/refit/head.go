package refit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// HeadOptions say how a classifier is trained. The zero value of a field means its
// default.
type HeadOptions struct {
	// Original, unless nil, is the network whose answers are taught too: the target
	// of a sample is Soft times the original's probabilities plus 1 - Soft times the
	// label. Soft 0 means DefaultSoft; it is not used without Original.
	Original *inspect.Model
	Soft     float64
	// L2 are the strengths of the penalty that are tried, of which the one with the
	// least held-out loss is taken; nil means 0.1, 0.03, 0.01, 0.003, 0.001,
	// 0.0003 and 0.0001. The penalty is half of L2 times the sum of squares of the changes of the
	// weights, for features scaled to unit variance.
	L2 []float64
	// Iterations bounds those for each L2; 0 means 60.
	Iterations int
}

// DefaultSoft is the weight of the original's answers in the targets.
const DefaultSoft = 0.5

// A HeadFit says what training a classifier came to.
type HeadFit struct {
	Layer string `json:"layer"`
	// Samples were trained on, HeldOut not seen by it.
	Samples int `json:"samples"`
	HeldOut int `json:"held_out_samples"`
	// Loss is the mean cross-entropy of the held-out samples with their targets, in
	// nats, Accuracy the share of them whose label has the largest output.
	LossBefore     float64 `json:"loss_before"`
	LossAfter      float64 `json:"loss_after"`
	AccuracyBefore float64 `json:"accuracy_before"`
	AccuracyAfter  float64 `json:"accuracy_after"`
	// L2 is the penalty chosen, Iterations how many were done for all of them, Soft
	// the weight of the original's answers.
	L2         float64 `json:"l2"`
	Iterations int     `json:"iterations"`
	Soft       float64 `json:"soft,omitempty"`
	// Weights is how many weights are not masked.
	Weights int64 `json:"weights"`
	// Kept tells that training made the held-out loss no smaller, so that the
	// classifier stays as it was.
	Kept bool `json:"kept,omitempty"`
}

// A NoClassifierError says why a model has no classifier that can be trained alone.
type NoClassifierError struct{ File, Reason string }

func (e *NoClassifierError) Error() string {
	return fmt.Sprintf("the classifier of %s cannot be trained: %s", e.File, e.Reason)
}

// Head trains the last linear layer of a classifier on the features that the network
// before it gives, which are computed once: weights that are zero stay zero, and the
// bias is trained too. It minimises the mean cross-entropy with the penalty of
// HeadOptions by L-BFGS from the weights that are there, from the strongest penalty to
// the weakest. The samples held out decide when to stop and which penalty is taken;
// where their loss did not fall, no weights are returned.
//
// The layer may be a convolution of 1 x 1 whose outputs are averaged over all
// positions, which is a linear layer on averaged features, or one with a Relu before
// the average (SqueezeNet), whose features are kept position by position. The function
// that is minimised is convex but for the Relu.
//
// The weights are keyed by the names of masked's stored tensors and in their layout.
// Errors are a *NoClassifierError and those of Ridge.
func Head(ctx context.Context, eng engine.Engine, masked *inspect.Model, set *dataset.Set, opt Options, head HeadOptions) (map[string][]float32, *HeadFit, error) {
	if head.L2 == nil {
		head.L2 = []float64{0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001}
	}
	for _, l2 := range head.L2 {
		if !(l2 >= 0) || math.IsInf(l2, 1) {
			return nil, nil, &OptionError{fmt.Sprintf("%v is not a strength of a penalty", l2)}
		}
	}
	if !(head.Soft >= 0 && head.Soft <= 1) {
		return nil, nil, &OptionError{fmt.Sprintf("a share of %v of the original's answers is not between 0 and 1", head.Soft)}
	}
	if head.Iterations <= 0 {
		head.Iterations = 60
	}
	switch {
	case head.Original == nil:
		head.Soft = 0
	case head.Soft == 0:
		head.Soft = DefaultSoft
	}
	r, err := newRunner(eng, head.Original, masked, set, opt)
	if err != nil {
		return nil, nil, err
	}
	s, pool, err := classifierSite(masked, r.opt.Memory)
	if err != nil {
		return nil, nil, err
	}
	h := &headTrainer{r: r, s: s, pool: pool, opt: head, fit: &HeadFit{Layer: s.name, Soft: head.Soft}}
	defer func() { h.close() }()
	if err := h.features(ctx); err != nil {
		return nil, nil, err
	}
	weights, err := h.train(ctx)
	return weights, h.fit, err
}

// classifierSite returns the last linear layer of m, and what is done with its outputs
// at more than one position.
func classifierSite(m *inspect.Model, memory int64) (*site, pooling, error) {
	survey, err := probe.NewSurvey(m)
	if err != nil {
		return nil, single, err
	}
	node, pool := pooledConv(m, survey.Output.Name)
	switch {
	case node >= 0:
	case survey.Classifier == nil:
		return nil, single, &NoClassifierError{m.File, "its output does not come from one linear layer"}
	default:
		node, pool = survey.Classifier.Node, single
	}
	for i := range m.Layers {
		if l := &m.Layers[i]; l.Scope == "" && l.Node == node {
			s, reason, err := newSite(m, m, l, false, memory)
			if err != nil {
				return nil, single, err
			}
			switch {
			case s == nil:
				return nil, single, &NoClassifierError{m.File, reason}
			case s.norm != nil || s.groups != 1 || s.taps != 1 || pool != single && !s.pointwise():
				return nil, single, &NoClassifierError{m.File, "it is not a plain linear layer"}
			}
			return s, pool, nil
		}
	}
	return nil, single, &NoClassifierError{m.File, "its layer is not in the main graph"}
}

// headTrainer trains a classifier.
type headTrainer struct {
	r    *runner
	s    *site
	opt  HeadOptions
	fit  *HeadFit
	pool pooling
	// rows is the number of rows of features that each sample has.
	rows int
	sess engine.Session
	// parts are the samples in pieces; those from held on are not trained on.
	parts []part
	held  int
	// Features are shifted by mean and divided by scale.
	mean, scale []float64
	// free lists the weights that are not masked, as places in a d x k matrix; start
	// holds where they and, behind them, the biases begin.
	free  []int
	start []float64
	w, c  *engine.Tensor
	out   map[string]*engine.Tensor
}

// A part is a number of samples: x has rows of features, t the targets.
type part struct {
	x, t   *engine.Tensor
	labels []int
}

func (h *headTrainer) close() error {
	if h.sess == nil {
		return nil
	}
	return h.sess.Close()
}

// features runs the network up to the classifier and brings the features to unit
// variance.
func (h *headTrainer) features(ctx context.Context) (err error) {
	r, s := h.r, h.s
	d, k := s.channels, s.f
	front, err := r.masked.load(ctx, []string{s.in}, nil)
	if err != nil {
		return err
	}
	defer front.close()
	var teacher *stage
	output := ""
	if r.original != nil {
		output = r.original.m.Outputs[0].Name
		if teacher, err = r.original.load(ctx, []string{output}, nil); err != nil {
			return err
		}
		defer teacher.close()
	}
	err = r.each(ctx, "features of "+s.name, 0, len(r.batches), true, func(b int, held bool, image func() (*engine.Tensor, error)) error {
		made, err := front.run(ctx, b, image, nil)
		if err != nil {
			return err
		}
		x, n, err := h.arrange(made[s.in])
		if err != nil {
			return err
		}
		p := part{x: engine.NewFloat32(x, int64(len(x)/d), int64(d)), t: engine.NewFloat32(make([]float32, n*k), int64(n), int64(k))}
		if teacher != nil {
			answers, err := teacher.run(ctx, b, image, nil)
			if err != nil {
				return err
			}
			if err := h.teach(p.t.Float32(), answers[output], output); err != nil {
				return err
			}
		}
		h.parts = append(h.parts, p)
		if !held {
			h.held = len(h.parts)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range h.parts {
		p := &h.parts[i]
		p.labels = r.labels[i]
		for j, label := range p.labels {
			p.t.Float32()[j*k+label] += float32(1 - h.opt.Soft)
		}
		if i < h.held {
			h.fit.Samples += len(p.labels)
		} else {
			h.fit.HeldOut += len(p.labels)
		}
	}
	h.standardise()
	return h.load(ctx)
}

// arrange returns the rows of features of n samples.
func (h *headTrainer) arrange(t *engine.Tensor) (x []float32, n int, err error) {
	r, d := h.r, h.s.channels
	x = t.Float32()
	refuse := func(format string, a ...any) ([]float32, int, error) {
		return nil, 0, &NoClassifierError{r.masked.m.File, fmt.Sprintf(format, a...)}
	}
	if len(t.Shape) == 0 || len(x) == 0 || int64(len(x))%(t.Shape[0]*int64(d)) != 0 {
		return refuse("it reads a tensor of shape %v, %d features for each sample are expected", t.Shape, d)
	}
	n = int(t.Shape[0])
	places := len(x) / n / d
	if h.pool == single && places != 1 {
		return refuse("it reads a tensor of shape %v, %d features for each sample are expected", t.Shape, d)
	}
	if places > 1 {
		x = h.pool.rows(x, d, places)
	}
	rows := len(x) / n / d
	if h.rows == 0 {
		h.rows = rows
		if need := int64(len(r.opt.Index)) * 4 * int64(d*rows+h.s.f); need > r.opt.Memory/2 {
			return refuse("its %d features of %d samples at %d positions take %d MB, more than half of the memory allowed; take fewer samples or allow more", d, len(r.opt.Index), rows, need>>20)
		}
	}
	if rows != h.rows {
		return refuse("it reads a tensor of shape %v, %d positions for each sample are expected", t.Shape, h.rows)
	}
	return x, n, nil
}

// teach writes the original's probabilities, weighted, to t.
func (h *headTrainer) teach(t []float32, answers *engine.Tensor, output string) error {
	a := answers.Float32()
	if len(a) != len(t) {
		return &NoClassifierError{h.r.original.m.File, fmt.Sprintf("its output has shape %v", answers.Shape)}
	}
	probabilities := endsInSoftmax(h.r.original.m, output)
	k := h.s.f
	row := make([]float64, k)
	for i := 0; i < len(a); i += k {
		top, sum := slices.Max(a[i:i+k]), 0.0
		for j, x := range a[i : i+k] {
			row[j] = float64(x) // of a Softmax it is a probability
			if !probabilities {
				row[j] = math.Exp(float64(x - top))
			}
			sum += row[j]
		}
		for j := range row {
			t[i+j] = float32(h.opt.Soft * row[j] / sum)
		}
	}
	return nil
}

// standardise shifts and scales the features, those of samples that are trained on
// to mean zero, if there is a bias, and variance one.
func (h *headTrainer) standardise() {
	d := h.s.channels
	h.mean, h.scale = make([]float64, d), make([]float64, d)
	n := float64(h.fit.Samples * h.rows)
	each := func(fn func(j int, x float64)) {
		for _, p := range h.parts[:h.held] {
			for i, x := range p.x.Float32() {
				fn(i%d, float64(x))
			}
		}
	}
	if h.s.intercept() {
		each(func(j int, x float64) { h.mean[j] += x / n })
	}
	each(func(j int, x float64) { h.scale[j] += (x - h.mean[j]) * (x - h.mean[j]) / n })
	for j, v := range h.scale {
		if h.scale[j] = math.Sqrt(v); !(h.scale[j] > 1e-12*(1+math.Abs(h.mean[j]))) {
			h.scale[j] = 1 // it says nothing
		}
	}
	for _, p := range h.parts {
		v := p.x.Float32()
		for i, x := range v {
			v[i] = float32((float64(x) - h.mean[i%d]) / h.scale[i%d])
		}
	}
}

// load loads the graph of the loss and its gradient.
func (h *headTrainer) load(ctx context.Context) (err error) {
	d, k := int64(h.s.channels), int64(h.s.f)
	b := newBuilder("classifier")
	x, t := b.input("x", onnxfile.Float, -1, d), b.input("t", onnxfile.Float, -1, k)
	w, c := b.input("w", onnxfile.Float, d, k), b.input("c", onnxfile.Float, 1, k)
	y := b.node("Add", []string{b.node("MatMul", []string{x, w}), c})
	z := y
	places := func(t string) string { return b.node("Reshape", []string{t, b.ints(-1, int64(h.rows), k)}) }
	if h.pool == activated {
		z = b.node("ReduceMean", []string{places(b.node("Relu", []string{y}))}, attrInts("axes", 1), attrInt("keepdims", 0))
	}
	b.output("z", "Identity", []string{z}, []int64{-1, k})
	log := b.node("LogSoftmax", []string{z}, attrInt("axis", 1))
	b.output("loss", "ReduceSum", []string{b.node("Mul", []string{log, t}), b.ints(0, 1)}, []int64{1, 1}, attrInt("keepdims", 1))
	diff := b.node("Sub", []string{b.node("Exp", []string{log}), t})
	if h.pool == activated {
		passed := b.node("Cast", []string{b.node("Greater", []string{places(y), b.floats([]float32{0})})}, attrInt("to", int64(onnxfile.Float)))
		each := b.node("Div", []string{b.node("Unsqueeze", []string{diff, b.ints(1)}), b.floats([]float32{float32(h.rows)})})
		diff = b.node("Reshape", []string{b.node("Mul", []string{passed, each}), b.ints(-1, k)})
	}
	b.output("dw", "Gemm", []string{x, diff}, []int64{d, k}, attrInt("transA", 1))
	b.output("dc", "ReduceSum", []string{diff, b.ints(0)}, []int64{1, k}, attrInt("keepdims", 1))
	bytes, err := b.d.Bytes()
	if err != nil {
		return err
	}
	if h.sess, err = h.r.eng.Load(ctx, engine.Model{Name: "the classifier", Bytes: bytes}); err != nil {
		return err
	}
	h.w, h.c = engine.NewFloat32(make([]float32, d*k), d, k), engine.NewFloat32(make([]float32, k), 1, k)
	h.out = map[string]*engine.Tensor{"loss": engine.NewFloat32(make([]float32, 1), 1, 1),
		"dw": engine.NewFloat32(make([]float32, d*k), d, k), "dc": engine.NewFloat32(make([]float32, k), 1, k)}
	return nil
}

// set puts variables into the tensors that the graph reads.
func (h *headTrainer) set(v []float64) {
	w := h.w.Float32()
	for i, at := range h.free {
		w[at] = float32(v[i])
	}
	for j, x := range v[len(h.free):] {
		h.c.Float32()[j] = float32(x)
	}
}

// loss returns the mean loss of the samples that are trained on, without penalty,
// and its gradient.
func (h *headTrainer) loss(ctx context.Context, v, gradient []float64) (float64, error) {
	h.set(v)
	clear(gradient)
	total := 0.0
	n := float64(h.fit.Samples)
	for _, p := range h.parts[:h.held] {
		if err := h.sess.Run(ctx, map[string]*engine.Tensor{"x": p.x, "t": p.t, "w": h.w, "c": h.c}, h.out); err != nil {
			return 0, err
		}
		total -= float64(h.out["loss"].Float32()[0]) / n
		dw := h.out["dw"].Float32()
		for i, at := range h.free {
			gradient[i] += float64(dw[at]) / n
		}
		for j := range gradient[len(h.free):] {
			gradient[len(h.free)+j] += float64(h.out["dc"].Float32()[j]) / n
		}
	}
	return total, nil
}

// judge returns the mean loss and the accuracy of the held-out samples.
func (h *headTrainer) judge(ctx context.Context, v []float64) (loss, accuracy float64, err error) {
	h.set(v)
	for _, p := range h.parts[h.held:] {
		out := map[string]*engine.Tensor{"loss": h.out["loss"], "z": nil}
		if err := h.sess.Run(ctx, map[string]*engine.Tensor{"x": p.x, "t": p.t, "w": h.w, "c": h.c}, out); err != nil {
			return 0, 0, err
		}
		loss -= float64(h.out["loss"].Float32()[0])
		z := out["z"].Float32()
		for i, label := range p.labels {
			if probe.Argmax(z[i*h.s.f:(i+1)*h.s.f]) == label {
				accuracy++
			}
		}
	}
	n := float64(h.fit.HeldOut)
	return loss / n, accuracy / n, nil
}

// patience is how many iterations may pass without a smaller held-out loss.
const patience = 8

// train returns the new weights, nil when there are none that are better.
func (h *headTrainer) train(ctx context.Context) (map[string][]float32, error) {
	s := h.s
	d, k := s.channels, s.f
	w0 := s.matrix(0)
	base := make([]float64, k) // what the bias adds to, once features are shifted
	for i := range d {
		for j := range k {
			at := i*k + j
			if w0[at] != 0 {
				h.free = append(h.free, at)
				h.start = append(h.start, w0[at]*h.scale[i])
				base[j] += w0[at] * h.mean[i]
			}
		}
	}
	h.fit.Weights = int64(len(h.free))
	if s.intercept() {
		for j := range k {
			h.start = append(h.start, float64(s.b[j])/float64(s.biasScale)+base[j])
		}
	}
	if len(h.start) == 0 {
		return nil, &NoClassifierError{h.r.masked.m.File, "all of its weights are masked and it has no bias"}
	}
	var err error
	f := h.fit
	if f.LossBefore, f.AccuracyBefore, err = h.judge(ctx, h.start); err != nil {
		return nil, err
	}
	f.LossAfter, f.AccuracyAfter = f.LossBefore, f.AccuracyBefore
	best, found := slices.Clone(h.start), false
	x := slices.Clone(h.start)
	for i, l2 := range h.opt.L2 {
		h.r.opt.Progress("training "+s.name, i, len(h.opt.L2))
		m := &descent{memory: 8, f: func(ctx context.Context, x, g []float64) (float64, error) {
			v, err := h.loss(ctx, x, g)
			for i := range h.free {
				e := x[i] - h.start[i]
				v += l2 / 2 * e * e
				g[i] += l2 * e
			}
			return v, err
		}}
		if err := m.start(ctx, x); err != nil {
			return nil, err
		}
		improved, idle := false, 0
		least := math.Inf(1)
		for range h.opt.Iterations {
			moved, err := m.step(ctx)
			if err != nil {
				return nil, err
			}
			f.Iterations++
			loss, acc, err := h.judge(ctx, m.x)
			if err != nil {
				return nil, err
			}
			if loss < f.LossAfter {
				f.LossAfter, f.AccuracyAfter, f.L2 = loss, acc, l2
				copy(best, m.x)
				improved, found = true, true
			}
			if idle++; loss < least {
				least, idle = loss, 0
			}
			if !moved || idle > patience {
				break
			}
		}
		x = slices.Clone(m.x)
		if found && !improved {
			break
		}
	}
	h.r.opt.Progress("training "+s.name, len(h.opt.L2), len(h.opt.L2))
	if !found {
		f.Kept = true
		return nil, nil
	}
	return h.result(best)
}

// result returns the stored tensors for variables.
func (h *headTrainer) result(v []float64) (map[string][]float32, error) {
	s := h.s
	k := s.f
	w := slices.Clone(s.w)
	constant := slices.Clone(v[len(h.free):])
	for i, at := range h.free {
		r, j := at/k, at%k
		x := v[i] / h.scale[r]
		w[s.index(0, r, j)] = float32(x / float64(s.scale))
		if s.intercept() {
			constant[j] -= x * h.mean[r]
		}
	}
	weights := map[string][]float32{s.weight: w}
	if s.intercept() {
		b := make([]float32, k)
		for j, c := range constant {
			b[j] = float32(c * float64(s.biasScale))
		}
		weights[s.bias] = b
	}
	for name, v := range weights {
		for _, x := range v {
			if x-x != 0 {
				return nil, fmt.Errorf("layer %s: %w", s.name, errors.New("a weight of tensor "+name+" is not finite"))
			}
		}
	}
	return weights, nil
}
