package inspect

import (
	"slices"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// The operators whose zeros Totals.Zeros counts.
var zerosCount = []string{"Conv", "ConvTranspose", "Gemm", "MatMul"}

// The order in which operators are named; others follow.
var usual = []string{"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "DeformConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum",
	"LSTM", "GRU", "RNN", "Attention",
	"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}

// Definitions returns what the numbers of m mean, a sentence each, and nothing
// of what m does not have.
func (m *Model) Definitions() []string {
	t := &m.Totals
	list := []string{m.parameterDefinition()}
	if t.Statistics > 0 {
		list = append(list, "statistics: running mean and variance of BatchNormalization")
	}
	if t.Constants > 0 {
		places := []string{"attributes"}
		if t.Subgraphs > 0 {
			places = append(places, "nested graphs")
		}
		if len(m.Functions) > 0 {
			places = append(places, "functions")
		}
		if t.TrainingNodes > 0 {
			places = append(places, "training_info")
		}
		list = append(list, "constants: elements of all other stored tensors, those in "+enumerated(places)+" included")
	}
	list = append(list, m.macDefinition(), m.activationDefinition())
	if zeros := m.zeroDefinition(); zeros != "" {
		list = append(list, zeros)
	}
	return list
}

// has returns those of some standard operators that the model runs.
func (m *Model) has(ops []string) (found []string) {
	for _, op := range ops {
		if slices.ContainsFunc(m.Operators, func(o OpCount) bool { return o.Op == op && o.Domain == "" }) {
			found = append(found, op)
		}
	}
	return found
}

func (m *Model) parameterDefinition() string {
	var multiply, normalise, foreign, of []string
	slopes := false
	packed, blocked, computed, sparse, sum := false, false, false, false, int64(0)
	for i := range m.Layers {
		l := &m.Layers[i]
		domain, op := splitOp(l.Op)
		switch o, known := operandsOf(domain, op); {
		case !known:
			foreign = append(foreign, l.Op)
		case o.cost != nil:
			multiply = append(multiply, l.Op)
		case op == "PRelu":
			slopes = true
		default:
			normalise = append(normalise, l.Op)
		}
		packed = packed || packs(domain, op)
		blocked = blocked || domain == "com.microsoft.nchwc"
		f := m.layer(l)
		computed = computed || f.weight.computed != nil || f.bias.computed != nil
		sparse = sparse || f.weight.sparse != nil || f.bias.sparse != nil
		sum = addUp(sum, l.Parameters)
	}
	if len(multiply) > 0 {
		of = append(of, "of the weights and biases of "+named(multiply))
	}
	if len(normalise) > 0 {
		of = append(of, "of the scale and shift of "+named(normalise))
	}
	if slopes {
		of = append(of, "of the slopes of PRelu")
	}
	if len(foreign) > 0 {
		of = append(of, "of the floating-point tensors stored for "+named(foreign))
	}
	if len(of) == 0 {
		return "parameters: elements of the weights of convolutions, Gemm, MatMul, normalisations and PRelu"
	}
	s := "parameters: elements " + enumerated(of)
	if sum > m.Totals.Parameters {
		s += "; a tensor that several nodes share counts once in the total"
	}
	if sparse {
		s += "; a sparse tensor has the elements of its dense shape"
	}
	if computed {
		s += "; a weight that is computed from stored numbers has the elements that it has then"
	}
	if m.Totals.ParametersUnknown > 0 {
		s += "; computed weights of unknown shape are left out"
	}
	if packed {
		s += "; a packed weight has those that it stands for"
	}
	if blocked {
		s += "; what fills up blocks of channels counts"
	}
	return s
}

func (m *Model) macDefinition() string {
	var found []string
	clauses := ""
	var recurrent, attention, foreign []string
	for _, o := range m.Operators {
		if !multiplies(o.Domain, o.Op) {
			continue
		}
		name := qualifiedOp(o.Domain, o.Op)
		found = append(found, name)
		switch {
		case o.Op == "LSTM" || o.Op == "GRU" || o.Op == "RNN" || o.Op == "DynamicQuantizeLSTM":
			recurrent = append(recurrent, name)
		case strings.Contains(o.Op, "Attention"):
			attention = append(attention, name)
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if _, known := operandsOf(splitOp(l.Op)); !known {
			foreign = append(foreign, l.Op)
		}
	}
	if len(recurrent) > 0 {
		clauses += "; " + named(recurrent) + " in all gates, steps and directions, for input and state"
	}
	if len(attention) > 0 {
		clauses += "; " + named(attention) + " without softmax and masks"
	}
	if slices.ContainsFunc(found, func(op string) bool { return strings.HasPrefix(op, "com.microsoft.nchwc.") }) {
		clauses += "; what fills up blocks of channels counts"
	}
	if len(foreign) > 0 {
		clauses += "; unknown for " + named(foreign)
	}
	of := named(found)
	if len(found) == 0 {
		of = "convolutions, Gemm and MatMul"
	}
	s := "MACs: multiply-accumulates of " + of + ", bias not counted" + m.batchOne() + clauses
	if len(m.has([]string{"If"})) > 0 {
		s += "; of an If the branch with more of them, unless the condition is known"
	}
	if loops := m.loops(); len(loops) > 0 {
		s += "; the body of " + enumerated(loops) + " as often as it runs, unknown where that is not known"
	}
	if m.calls() {
		s += "; a function at each call"
	}
	return s
}

// named enumerates operators, each once.
func named(ops []string) string {
	place := func(op string) int {
		if i := slices.Index(usual, op); i >= 0 {
			return i
		}
		return len(usual)
	}
	var once []string
	seen := make(map[string]bool)
	for _, op := range ops {
		if !seen[op] {
			seen[op] = true
			once = append(once, op)
		}
	}
	slices.SortStableFunc(once, func(a, b string) int { return place(a) - place(b) })
	return enumerated(once)
}

func (m *Model) activationDefinition() string {
	s := "activation memory: most bytes of tensors alive at once, each from the node that makes it (an input: from the start) to the last that reads it " +
		"(an output: to the end); nodes run one by one in order, nothing in place, weights and Constant nodes not counted" + m.batchOne()
	if loops := m.loops(); len(loops) > 0 {
		s += "; the most of a body of " + enumerated(loops) + " adds to what the node makes"
	}
	var hands []string
	if len(m.has([]string{"If"})) > 0 {
		hands = append(hands, "an If")
	}
	if m.calls() {
		hands = append(hands, "a call of a function")
	}
	if len(hands) > 0 {
		s += "; for " + enumerated(hands) + " the most of a body counts, or what the node makes, whichever is larger"
	}
	return s
}

func (m *Model) zeroDefinition() string {
	other, quantized := false, false
	known := m.Totals.Zeros != nil
	for i := range m.Layers {
		if l := &m.Layers[i]; l.Zeros != nil {
			known = true
			other = other || !slices.Contains(zerosCount, l.Op)
			quantized = quantized || onnxfile.DType(m.layer(l).weight.dense.GetDataType()).IsInteger()
		}
	}
	s := "zeros: share of a weight's elements that are exactly zero"
	if quantized {
		s += ", of a quantized one that equal its zero point"
	}
	switch {
	case !known:
		return ""
	case other && m.Totals.Zeros != nil:
		s += "; in the total, of those of " + enumerated(m.has(zerosCount))
	}
	return s
}

// loops returns the operators of m that run a body again and again.
func (m *Model) loops() []string { return m.has([]string{"Loop", "Scan", "SequenceMap"}) }

// calls tells whether a node of m stands for a function.
func (m *Model) calls() bool {
	return slices.ContainsFunc(m.Functions, func(f Function) bool { return f.Calls > 0 })
}

// batchOne says which batch is meant where an input leaves it open.
func (m *Model) batchOne() string {
	for _, v := range m.Inputs {
		if v.Shape.Known && len(v.Shape.Dims) > 0 && v.Shape.Dims[0].Value < 0 {
			return ", batch 1"
		}
	}
	return ""
}

// enumerated writes "a, b and c".
func enumerated(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}
