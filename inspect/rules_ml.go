package inspect

import (
	"slices"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// ruleOfML is the table for ai.onnx.ml, the operators of classical machine
// learning.
func ruleOfML(op string) rule {
	switch op {
	case "Binarizer", "Imputer":
		return sameRule
	case "Normalizer", "Scaler":
		return toFloatRule
	case "LabelEncoder":
		return labelEncoderRule
	case "LinearRegressor":
		return func(c *call) { rows(c, 0, onnxfile.Float, integer(c.AttrInt("targets", 1)).dim()) }
	case "TreeEnsembleRegressor":
		return func(c *call) { rows(c, 0, onnxfile.Float, integer(c.AttrInt("n_targets", -1)).dim()) }
	case "TreeEnsemble":
		return func(c *call) { rows(c, 0, c.in(0).dtype, integer(c.AttrInt("n_targets", -1)).dim()) }
	case "LinearClassifier", "TreeEnsembleClassifier":
		return classifierRule
	case "OneHotEncoder":
		return oneHotEncoderRule
	case "ArrayFeatureExtractor":
		return arrayFeatureRule
	}
	return nil
}

func toFloatRule(c *call) {
	t := c.in(0)
	t.value, t.dtype = nil, onnxfile.Float
	c.set(0, t)
}

// rows sets output i to a matrix with a row for each row of input 0.
func rows(c *call, i int, d onnxfile.DType, width term) {
	x := c.in(0)
	c.typed(i, d)
	if x.known && len(x.shape) == 2 {
		c.shape(i, d, []term{x.shape[0], width})
	}
}

func labelEncoderRule(c *call) {
	t := c.in(0)
	t.value = nil
	from := t.dtype
	t.dtype = 0
	if c.opset < 2 {
		switch from {
		case stringType:
			t.dtype = onnxfile.Int64
		case onnxfile.Int64:
			t.dtype = stringType
		}
	} else {
		for name, d := range map[string]onnxfile.DType{"values_strings": stringType, "values_int64s": onnxfile.Int64, "values_floats": onnxfile.Float} {
			if c.Attr(name) != nil {
				t.dtype = d
			}
		}
		if p := c.Attr("values_tensor").GetT(); p != nil {
			t.dtype = onnxfile.DType(p.GetDataType())
		}
	}
	c.set(0, t)
}

// classifierRule sets the labels and leaves open how many classes the scores
// have, for binary models give one or two.
func classifierRule(c *call) {
	x := c.in(0)
	labels := onnxfile.DType(0)
	for name, d := range map[string]onnxfile.DType{"classlabels_strings": stringType, "classlabels_int64s": onnxfile.Int64, "classlabels_ints": onnxfile.Int64} {
		a := c.Attr(name)
		if len(a.GetInts())+len(a.GetStrings()) == 0 {
			continue
		}
		if labels != 0 {
			return // they contradict each other
		}
		labels = d
	}
	c.typed(0, labels)
	if x.known && len(x.shape) == 2 {
		c.shape(0, labels, x.shape[:1:1])
	}
	rows(c, 1, onnxfile.Float, term{})
}

func oneHotEncoderRule(c *call) {
	x := c.in(0)
	c.typed(0, onnxfile.Float)
	n := len(c.AttrInts("cats_int64s"))
	if n == 0 {
		n = len(c.Attr("cats_strings").GetStrings())
	}
	if x.known && n > 0 {
		c.shape(0, onnxfile.Float, append(slices.Clone(x.shape), integer(int64(n))))
	}
}

func arrayFeatureRule(c *call) {
	x, idx := c.in(0), c.in(1)
	c.typed(0, x.dtype)
	if !x.known || len(x.shape) == 0 || !idx.known {
		return
	}
	n := productTerm(idx.shape)
	if len(x.shape) == 1 {
		c.shape(0, x.dtype, []term{integer(1), n})
		return
	}
	c.shape(0, x.dtype, append(slices.Clone(x.shape[:len(x.shape)-1]), n))
}

// ruleOfTraining is the table for ai.onnx.preview.training. Its optimizers take
// a learning rate, a step count, and then groups of tensors: parameters,
// gradients and one or two of states, of which all but the gradients come out
// anew.
func ruleOfTraining(op string) rule {
	groups := 0
	switch op {
	case "Momentum", "Adagrad":
		groups = 2
	case "Adam":
		groups = 3
	default:
		return nil
	}
	return func(c *call) {
		n := len(c.Outputs) / groups
		if n*groups != len(c.Outputs) || len(c.Inputs) != 2+(groups+1)*n {
			return
		}
		for i := range c.out {
			from := i
			if i >= n {
				from += n // past the gradients
			}
			t := c.in(2 + from)
			t.value = nil
			c.set(i, t)
		}
	}
}
