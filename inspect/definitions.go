package inspect

import (
	"slices"
	"strings"
)

// The operators whose multiply-accumulates and weights count, and those among
// them whose zeros Totals.Zeros counts.
var (
	multiplying    = []string{"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"}
	zerosCount     = []string{"Conv", "ConvTranspose", "Gemm", "MatMul"}
	normalisations = []string{"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"}
)

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
	var of []string
	layers := func(ops ...string) (found []string) {
		for _, op := range ops {
			if slices.ContainsFunc(m.Layers, func(l Layer) bool { return l.Op == op }) {
				found = append(found, op)
			}
		}
		return found
	}
	if found := layers(multiplying...); len(found) > 0 {
		of = append(of, "of the weights and biases of "+enumerated(found))
	}
	if found := layers(normalisations...); len(found) > 0 {
		of = append(of, "of the scale and shift of "+enumerated(found))
	}
	if found := layers("PRelu"); len(found) > 0 {
		of = append(of, "of the slopes of PRelu")
	}
	if len(of) == 0 {
		return "parameters: elements of the weights of convolutions, Gemm, MatMul, normalisations and PRelu"
	}
	s := "parameters: elements " + enumerated(of)
	sum, sparse := int64(0), false
	for i := range m.Layers {
		sum = addUp(sum, m.Layers[i].Parameters)
		f := m.layer(&m.Layers[i])
		sparse = sparse || f.weight.sparse != nil || f.bias.sparse != nil
	}
	if sum > m.Totals.Parameters {
		s += "; a tensor that several nodes share counts once in the total"
	}
	if sparse {
		s += "; a sparse tensor has the elements of its dense shape"
	}
	return s
}

func (m *Model) macDefinition() string {
	found := m.has(multiplying)
	if len(found) == 0 {
		found = []string{"convolutions", "Gemm", "MatMul"}
	}
	s := "MACs: multiply-accumulates of " + enumerated(found) + ", bias not counted" + m.batchOne()
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
	other := false
	known := m.Totals.Zeros != nil
	for i := range m.Layers {
		if l := &m.Layers[i]; l.Zeros != nil {
			known = true
			other = other || !slices.Contains(zerosCount, l.Op)
		}
	}
	switch {
	case !known:
		return ""
	case other && m.Totals.Zeros != nil:
		return "zeros: share of a weight's elements that are exactly zero; in the total, of those of " + enumerated(m.has(zerosCount))
	}
	return "zeros: share of a weight's elements that are exactly zero"
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
