package compact

import (
	"math"

	"github.com/filterlens/filterlens/inspect"
)

// unary returns what an elementwise operator of one tensor does to a number, nil
// for other operators. Formulas and defaults: the ONNX operator schemas.
func (a *analysis) unary(n *inspect.Node) func(float64) float64 {
	alpha := func(def float32) float64 { return float64(n.AttrFloat("alpha", def)) }
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	clamp := func(x, lo, hi float64) float64 { return math.Min(math.Max(x, lo), hi) }
	switch n.Op {
	case "Identity":
		return keepValue
	case "Relu":
		return func(x float64) float64 { return math.Max(x, 0) }
	case "LeakyRelu":
		al := alpha(0.01)
		return func(x float64) float64 {
			if x < 0 {
				return al * x
			}
			return x
		}
	case "ThresholdedRelu":
		al := alpha(1)
		return func(x float64) float64 {
			if x <= al {
				return 0
			}
			return x
		}
	case "Elu", "Celu":
		al := alpha(1)
		div := 1.0
		if n.Op == "Celu" {
			div = al
		}
		return func(x float64) float64 {
			if x < 0 {
				return al * math.Expm1(x/div)
			}
			return x
		}
	case "Selu":
		al, gamma := alpha(1.67326319217681884765625), float64(n.AttrFloat("gamma", 1.05070102214813232421875))
		return func(x float64) float64 {
			if x < 0 {
				return gamma * al * math.Expm1(x)
			}
			return gamma * x
		}
	case "Sigmoid":
		return sigmoid
	case "HardSigmoid":
		al, be := alpha(0.2), float64(n.AttrFloat("beta", 0.5))
		return func(x float64) float64 { return clamp(al*x+be, 0, 1) }
	case "HardSwish":
		return func(x float64) float64 { return x * clamp(x/6+0.5, 0, 1) }
	case "Swish":
		al := alpha(1)
		return func(x float64) float64 { return x * sigmoid(al*x) }
	case "Mish":
		return func(x float64) float64 { return x * math.Tanh(math.Log1p(math.Exp(x))) }
	case "Gelu":
		if n.AttrString("approximate", "none") == "tanh" {
			return func(x float64) float64 {
				return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
			}
		}
		return func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }
	case "Softplus":
		return func(x float64) float64 { return math.Log1p(math.Exp(x)) }
	case "Softsign":
		return func(x float64) float64 { return x / (1 + math.Abs(x)) }
	case "Tanh":
		return math.Tanh
	case "Exp":
		return math.Exp
	case "Erf":
		return math.Erf
	case "Abs":
		return math.Abs
	case "Neg":
		return func(x float64) float64 { return -x }
	case "Sqrt":
		return math.Sqrt
	case "Reciprocal":
		return func(x float64) float64 { return 1 / x }
	case "Clip":
		return a.clip(n)
	case "Log", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
		"Not", "IsNaN", "IsInf", "Cast":
		return varies
	}
	return nil
}

func (a *analysis) clip(n *inspect.Node) func(float64) float64 {
	lo, hi := math.Inf(-1), math.Inf(1)
	if p := n.Attr("min"); p != nil {
		lo = float64(p.GetF())
	}
	if p := n.Attr("max"); p != nil {
		hi = float64(p.GetF())
	}
	for i, at := range []*float64{&lo, &hi} {
		if in := n.Input(i + 1); in != "" {
			v, ok := a.g.Float(in)
			if !ok {
				v = nan
			}
			*at = v
		}
	}
	return func(x float64) float64 { return math.Min(math.Max(x, lo), hi) }
}

// combination returns what an elementwise operator of several tensors does, nil
// for other operators. NaN stands for what varies.
func combination(op string) func([]float64) float64 {
	fold := func(fn func(x, y float64) float64) func([]float64) float64 {
		return func(x []float64) float64 {
			r := x[0]
			for _, y := range x[1:] {
				r = fn(r, y)
			}
			return r
		}
	}
	switch op {
	case "Add", "Sum":
		return fold(func(x, y float64) float64 { return x + y })
	case "Sub":
		return fold(func(x, y float64) float64 { return x - y })
	case "Mul":
		return fold(func(x, y float64) float64 {
			if x == 0 || y == 0 {
				return 0
			}
			return x * y
		})
	case "Div":
		return fold(func(x, y float64) float64 { return x / y })
	case "Pow":
		return fold(math.Pow)
	case "Max":
		return fold(math.Max)
	case "Min":
		return fold(math.Min)
	case "Mean":
		return func(x []float64) float64 {
			s := 0.0
			for _, v := range x {
				s += v
			}
			return s / float64(len(x))
		}
	case "PRelu":
		return fold(func(x, slope float64) float64 {
			if x < 0 {
				return x * slope
			}
			return x // NaN too
		})
	}
	return nil
}

// An operand is an input of an elementwise operator.
type operand struct {
	t *track // nil for what is stored or does not vary along the channels
	// wide: the one place of t is for all channels.
	wide bool
	v    []float64 // of what is stored
}

// elementwise couples the first k inputs of n with its output, with broadcasting
// as in NumPy. fn maps one number from each to one of the output.
func (a *analysis) elementwise(n *inspect.Node, k int, fn func([]float64) float64) (string, error) {
	rank := a.rank(n.Output(0))
	if rank < 0 {
		return "the shape of its output is not known", nil
	}
	var lead *track
	axis := 0
	for i := range k {
		if t := a.live[n.Input(i)]; t != nil && (lead == nil || t.n > lead.n) {
			lead, axis = t, t.axis+rank-a.rank(n.Input(i))
		}
	}
	if lead == nil {
		return "none of its inputs has channels", nil
	}
	if shape := a.g.Shape(n.Output(0)); axis >= rank || shape.Dims[axis].Value != int64(lead.n) {
		return "its output has other channels than its input", nil
	}
	ops := make([]operand, k)
	for i := range k {
		reason, err := a.operand(n, i, rank, axis, lead, &ops[i])
		if reason != "" || err != nil {
			return reason, err
		}
	}
	out := a.sized(n, axis, lead.n)
	if out == nil {
		return "the shape of its output is not known or does not fit", nil
	}
	a.join(lead, out)
	a.eval(func(v *values) error {
		x := make([]float64, k)
		to := v.of(out)
		for c := range to {
			for i := range ops {
				x[i] = ops[i].at(v, c)
			}
			if to[c] = fn(x); math.IsInf(to[c], 0) {
				to[c] = nan
			}
		}
		return nil
	})
	return "", nil
}

func (o *operand) at(v *values, c int) float64 {
	switch {
	case o.t != nil && o.wide:
		return v.of(o.t)[0]
	case o.t != nil:
		return v.of(o.t)[c]
	case o.v != nil:
		return o.v[c]
	}
	return nan
}

// operand couples input i of an elementwise operator, whose output has its
// channels on axis, with lead.
func (a *analysis) operand(n *inspect.Node, i, rank, axis int, lead *track, o *operand) (string, error) {
	name := n.Input(i)
	s := a.g.Shape(name)
	if name == "" || !s.Known {
		return "the shape of an input is not known", nil
	}
	at := axis - (rank - len(s.Dims)) // of the operand
	along := at >= 0 && s.Dims[at].Value != 1
	if along && s.Dims[at].Value != int64(lead.n) {
		return "an input has other channels than the rest", nil
	}
	if a.kind(name) == data {
		t := a.live[name]
		switch {
		case along && t.axis != at:
			return "the channels of its inputs lie on different axes", nil
		case along:
			a.join(lead, t)
			o.t = t
		case t.axis == at: // one channel for all
			a.pin(t, "node "+quote(n.Label())+" ("+n.Op+") broadcasts it over other channels")
			o.t, o.wide = t, true
		default: // it varies along other axes only
			a.pin(t, "node "+quote(n.Label())+" ("+n.Op+") broadcasts it over other channels")
		}
		return "", nil
	}
	v, ok := a.view(n, i)
	switch {
	case !ok && along:
		return "an input is computed from stored numbers, not stored", nil
	case !ok:
		if x, one := a.g.Float(name); one {
			o.v = make([]float64, lead.n)
			for c := range o.v {
				o.v[c] = x
			}
		}
		return "", nil
	case !along:
		at = -1
	case !a.along(v, at, lead):
		return "a stored input does not fit its channels", nil
	}
	var err error
	o.v, err = a.numbers(v, at, lead.n)
	return "", err
}
