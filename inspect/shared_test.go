package inspect

import "testing"

// sumModels are models whose layers share weights or run more or less than once.
func sumModels(t *testing.T) map[string]*Model {
	t.Helper()
	product := func(s *sketch) { s.node("MatMul", "x w", "a") }
	larger := func(s *sketch) { s.node("MatMul", "x v", "b").node("MatMul", "b w", "a") }
	start := func(dims ...any) *sketch {
		return newSketch(17).input("x", dims...).weights("w", []int64{4, 4}).weights("v", []int64{4, 4}).output("y", dims...)
	}
	loop := func(s *sketch, trips string) *sketch {
		return s.node("Loop", trips+" _ x", "y", attrGraph("body", counted(body("i c q", "more r", func(s *sketch) {
			s.node("Identity", "c", "more").node("MatMul", "q w", "r")
		}))))
	}
	models := map[string]*Model{}
	for name, s := range map[string]*sketch{
		"shared": newSketch(17).input("x", 1, 4).weights("u", []int64{4, 5}).
			node("MatMul", "x u", "a").node("MatMul", "x u", "b").node("MatMul", "x u", "c").output("a").output("b").output("c"),
		"loop":         loop(start(2, 4).scalar("k", 5), "k"),
		"loop never":   loop(start(2, 4).scalar("k", -5), "k"),
		"loop unknown": loop(start(2, 4).node("Size", "n", "k").input("n", "l", "m"), "k"),
		"if": start(2, 4).input("q").node("If", "q", "y", attrGraph("then_branch", body("", "a", product)),
			attrGraph("else_branch", body("", "a", larger))),
		"if known": start(2, 4).scalar("q", 1).node("If", "q", "y", attrGraph("then_branch", body("", "a", product)),
			attrGraph("else_branch", body("", "a", larger))),
		"unknown": start("l", "m").node("Nonzero", "x", "a").node("MatMul", "a w", "y"),
	} {
		models[name] = s.model(t, Options{})
	}
	return models
}

// What is summed up over all layers is what the totals say, as far as layers
// make them up.
func TestSumLayersIsTotal(t *testing.T) {
	for name, m := range sumModels(t) {
		s := m.SumLayers(m.Layers)
		if s.Parameters != m.Totals.Parameters || s.ParametersUnknown != m.Totals.ParametersUnknown {
			t.Errorf("%s: %d parameters, %d unknown; the totals say %d, %d", name, s.Parameters, s.ParametersUnknown, m.Totals.Parameters, m.Totals.ParametersUnknown)
		}
		if (s.MACs == nil) != (m.Totals.MACs == nil) || s.MACs != nil && *s.MACs != *m.Totals.MACs || s.MACsUnknown != m.Totals.MACsUnknown {
			t.Errorf("%s: MACs %v, %d unknown; the totals say %v, %d", name, s.MACs, s.MACsUnknown, m.Totals.MACs, m.Totals.MACsUnknown)
		}
		if s.WeightBytes != m.Totals.WeightBytes {
			t.Errorf("%s: %d bytes, the totals say %d", name, s.WeightBytes, m.Totals.WeightBytes)
		}
	}
}

func TestLayerRuns(t *testing.T) {
	models := sumModels(t)
	for _, c := range []struct {
		model string
		layer int
		runs  int64
		maybe bool
	}{
		{"shared", 0, 1, false}, {"loop", 0, 5, false}, {"loop never", 0, 0, false}, {"loop unknown", 0, -1, false},
		{"if", 0, 1, true}, {"if", 1, 1, true}, {"if known", 0, 1, false}, {"if known", 1, 0, false},
	} {
		m := models[c.model]
		if runs, maybe := m.LayerRuns(&m.Layers[c.layer]); runs != c.runs || maybe != c.maybe {
			t.Errorf("%s, layer %d: %d, %v; want %d, %v", c.model, c.layer, runs, maybe, c.runs, c.maybe)
		}
	}
	if s := models["shared"].SumLayers(models["shared"].Layers[1:]); s.Parameters != 20 || *s.MACs != 40 || s.WeightBytes != 80 {
		t.Errorf("two readers of one tensor: %d parameters, %d MACs, %d bytes", s.Parameters, *s.MACs, s.WeightBytes)
	}
	if n, maybe := (&Model{}).LayerRuns(&Layer{}); n != 1 || maybe {
		t.Errorf("of a model without a graph: %d, %v", n, maybe)
	}
}
