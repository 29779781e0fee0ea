package compact

import (
	"testing"
)

// fire is a module of SqueezeNet.
func (n *net) fire(name, x string, from, squeeze, expand int64) string {
	s := n.node(name+".s.relu", "Relu", []string{n.conv(name+".s", x, from, squeeze, 1, 0, 1)})
	a := n.node(name+".1.relu", "Relu", []string{n.conv(name+".1", s, squeeze, expand, 1, 0, 1)})
	b := n.node(name+".3.relu", "Relu", []string{n.conv(name+".3", s, squeeze, expand, 3, 1, 1)})
	return n.node(name, "Concat", []string{a, b}, integer("axis", 1))
}

// inverted is an inverted residual of MobileNetV2.
func (n *net) inverted(name, x string, from, to, expand int64) string {
	clip := func(t string) string { return n.node(t+".clip", "Clip", []string{t, "zero", "six"}) }
	t := clip(n.conv(name+".e", x, from, from*expand, 1, 0, 1))
	t = clip(n.conv(name+".d", t, from*expand, from*expand, 3, 1, from*expand))
	t = n.conv(name+".p", t, from*expand, to, 1, 0, 1)
	if from == to {
		t = n.node(name, "Add", []string{x, t})
	}
	return t
}

// bottleneck is a block of ResNet-50 with a shortcut of its own where it widens.
func (n *net) bottleneck(name, x string, from, mid, to int64) string {
	t := n.node(name+".r1", "Relu", []string{n.conv(name+".1", x, from, mid, 1, 0, 1)})
	t = n.node(name+".r2", "Relu", []string{n.conv(name+".2", t, mid, mid, 3, 1, 1)})
	t = n.conv(name+".3", t, mid, to, 1, 0, 1)
	if from != to {
		x = n.conv(name+".s", x, from, to, 1, 0, 1)
	}
	return n.node(name, "Relu", []string{n.node(name+".add", "Add", []string{t, x})})
}

// TestArchitectures compacts small networks of published kinds, masked and with
// half of their channels asked for.
func TestArchitectures(t *testing.T) {
	list := engines(t)
	for name, draw := range map[string]func(n *net){
		"SqueezeNet": func(n *net) {
			x := n.node("r", "Relu", []string{n.conv("stem", "x", 3, 16, 3, 1, 1)})
			x = n.node("pool", "MaxPool", []string{x}, ints("kernel_shape", 3, 3), ints("strides", 2, 2))
			x = n.fire("f1", x, 16, 4, 8)
			x = n.fire("f2", x, 16, 6, 12)
			x = n.node("drop", "Dropout", []string{x})
			x = n.node("last.relu", "Relu", []string{n.conv("last", x, 24, 4, 1, 0, 1)})
			n.node("gap", "GlobalAveragePool", []string{x})
			n.out(n.node("y", "Flatten", []string{"gap"}))
		},
		"MobileNetV2": func(n *net) {
			n.floats("zero", []float32{0})
			n.floats("six", []float32{6})
			x := n.conv("stem", "x", 3, 8, 3, 1, 1)
			x = n.inverted("b1", x, 8, 12, 2)
			x = n.inverted("b2", x, 12, 12, 3)
			x = n.inverted("b3", x, 12, 12, 3)
			n.head(n.conv("top", x, 12, 20, 1, 0, 1), 20)
		},
		"ResNet": func(n *net) {
			x := n.node("r", "Relu", []string{n.conv("stem", "x", 3, 8, 3, 1, 1)})
			x = n.bottleneck("b1", x, 8, 4, 16)
			x = n.bottleneck("b2", x, 16, 4, 16)
			x = n.bottleneck("b3", x, 16, 6, 24)
			n.head(n.bottleneck("b4", x, 24, 6, 24), 24)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNet(4, -1, 3, 13, 13)
			draw(n)
			whole := n.bytes(t)
			m := read(t, whole)
			p, w := compacted(t, list, m, whole, Options{Remove: half(t, m)})
			if len(p.Barriers) > 0 || len(p.Refused) > 0 || 2*(*w.Totals.MACs) > *m.Totals.MACs {
				t.Errorf("MACs %d to %d, barriers %+v, refused %+v", *m.Totals.MACs, *w.Totals.MACs, p.Barriers, p.Refused)
			}
			for seed := range uint64(4) {
				source := masked(t, whole, seed, 0.6, 0.3)
				m := read(t, source)
				p, _ := compacted(t, list, m, source, Options{})
				if p.Removed == 0 {
					t.Error("nothing went")
				}
				t.Logf("%d of %d channels, MACs %d to %d", p.Removed, p.Channels, *p.Before.MACs, *p.After.MACs)
				compacted(t, list, m, source, Options{Remove: half(t, m), RoundTo: 4})
			}
		})
	}
}
