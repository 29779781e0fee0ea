package compact

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// Blocks is how a convolution whose kernels fall into independent blocks can be
// computed in groups: each of its outputs reads inputs of one group only, and what it
// does not read are kernels that are zero.
type Blocks struct {
	// Index is the node's position in the graph, Layer its name as a layer.
	Index int    `json:"index"`
	Layer string `json:"layer"`
	// Components counts the blocks: the connected components of the graph that joins
	// an input and an output where the kernel between them is not zero. A group holds
	// one or more of them.
	Components int `json:"components"`
	Groups     int `json:"groups"`
	// Inputs has the input channel at each place of the grouped convolution, Outputs
	// the output channel: group q reads the q-th of Groups equal parts of Inputs and
	// makes the q-th of Outputs. A place of -1 fills a group up, with kernels of zero.
	Inputs  []int `json:"inputs"`
	Outputs []int `json:"outputs"`
	// Share is what is left of the convolution's multiply-accumulates: those of all
	// groups, fillings included, divided by those of all pairs of channels.
	Share float64 `json:"share"`
}

const (
	// maxShare is the largest Blocks.Share that is worth a try: two groups that are
	// filled up by half. What the fillings cost beside multiply-accumulates (each side
	// that has some needs a Gather) is for a measurement to tell.
	maxShare = 0.75
	// maxForms is how many numbers of groups are returned of one convolution. Runtimes
	// compute few wide groups better than many narrow ones, so that the fewest
	// multiply-accumulates need not be the least time.
	maxForms = 3
)

// FindBlocks finds the convolutions of m, of one group so far, that can be computed in
// groups. Of each it returns, in the order of the graph, up to three ways, that with
// the fewest multiply-accumulates first and each next one with at most half as many
// groups. A convolution with one component only, or whose weight or bias other nodes
// rearrange, has none. Errors are those of NewPlan.
func FindBlocks(ctx context.Context, m *inspect.Model) ([][]Blocks, error) {
	a, err := analyse(ctx, m, false)
	if err != nil {
		return nil, err
	}
	var list [][]Blocks
	for _, s := range a.sinks {
		if !a.groupable(s) {
			continue
		}
		if err := s.find(ctx); err != nil {
			return nil, err
		}
		parts := s.components()
		s.read, s.count = nil, nil
		forms := parts.forms()
		for i := range forms {
			forms[i].Index, forms[i].Layer = s.node.Index, a.layerName(s.node)
		}
		if len(forms) > 0 {
			list = append(list, forms)
		}
	}
	return list, nil
}

func (a *analysis) layerName(n *inspect.Node) string {
	for i := range a.m.Layers {
		if l := &a.m.Layers[i]; l.Scope == "" && l.Node == n.Index {
			return l.Name
		}
	}
	return n.Label()
}

// groupable tells whether the numbers of a convolution of one group can be put into
// another order.
func (a *analysis) groupable(s *sink) bool {
	if s.node.Op != "Conv" || s.groups != 1 || s.in.n < 2 || s.out.n < 2 {
		return false
	}
	for i, name := range s.node.Inputs[1:] {
		st, ok := a.g.Stored(name)
		if name == "" {
			continue
		}
		if !ok || len(st.Through) > 0 || st.Tensor.DType().Bits()%8 != 0 {
			return false
		}
		if dims := st.Tensor.Dims(); i == 1 && (len(dims) != 1 || dims[0] != int64(s.out.n)) {
			return false
		}
	}
	return true
}

// A component is a set of inputs and outputs that no kernel joins to others.
type component struct{ ins, outs []int }

// components are those of one convolution.
type components struct {
	in, out int // channels
	list    []component
	// loose are the channels without any kernel.
	loose component
}

// components finds the connected components of the kernels of s, by the first of
// their outputs.
func (s *sink) components() components {
	parent := make([]int, s.out.n+s.in.n) // outputs, then inputs
	for i := range parent {
		parent[i] = i
	}
	find := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	alone := make([]bool, len(parent))
	for i := range alone {
		alone[i] = true
	}
	for o := range s.out.n {
		s.columnsOf(o, func(c int) {
			parent[find(s.out.n+c)] = find(o)
			alone[o], alone[s.out.n+c] = false, false
		})
	}
	c := components{in: s.in.n, out: s.out.n}
	number := map[int]int{}
	for i := range parent {
		at := &c.loose
		if !alone[i] {
			root := find(i)
			if _, ok := number[root]; !ok {
				number[root] = len(c.list)
				c.list = append(c.list, component{})
			}
			at = &c.list[number[root]]
		}
		if i < s.out.n {
			at.outs = append(at.outs, i)
		} else {
			at.ins = append(at.ins, i-s.out.n)
		}
	}
	return c
}

// forms packs the components into groups, in each number of groups that divides one
// of the numbers of channels, and into one group each.
func (c components) forms() []Blocks {
	if len(c.list) < 2 {
		return nil
	}
	// The large ones first, so that the small ones fill what they leave.
	size := func(x component) float64 {
		return max(float64(len(x.ins))/float64(c.in), float64(len(x.outs))/float64(c.out))
	}
	slices.SortStableFunc(c.list, func(x, y component) int { return cmp.Compare(size(y), size(x)) })
	var all []Blocks
	for g := 2; g <= len(c.list); g++ {
		if c.in%g != 0 && c.out%g != 0 && g != len(c.list) {
			continue
		}
		if b := c.pack(g); b.Share <= maxShare {
			all = append(all, b)
		}
	}
	padded := func(b Blocks) int { return len(b.Inputs) - c.in + len(b.Outputs) - c.out }
	slices.SortStableFunc(all, func(x, y Blocks) int {
		return cmp.Or(cmp.Compare(x.Share, y.Share), cmp.Compare(padded(x), padded(y)))
	})
	var forms []Blocks
	for _, b := range all {
		if n := len(forms); n < maxForms && (n == 0 || 2*b.Groups <= forms[n-1].Groups) {
			forms = append(forms, b)
		}
	}
	return forms
}

// pack puts the components into g groups: without fillings where a greedy best fit
// finds such a packing, else so that the largest group stays small.
func (c components) pack(g int) Blocks {
	bins := c.fit(g)
	if bins == nil {
		bins = c.spread(g)
	}
	in, out := (c.in+g-1)/g, (c.out+g-1)/g // with room for the loose channels
	for _, b := range bins {
		in, out = max(in, len(b.ins)), max(out, len(b.outs))
	}
	slices.SortStableFunc(bins, func(x, y component) int { return slices.Compare(first(x.ins), first(y.ins)) })
	b := Blocks{Components: len(c.list), Groups: g, Share: float64(in) * float64(out) * float64(g) / (float64(c.in) * float64(c.out))}
	ins, outs := c.loose.ins, c.loose.outs
	for _, bin := range bins {
		b.Inputs, ins = fill(b.Inputs, bin.ins, ins, in)
		b.Outputs, outs = fill(b.Outputs, bin.outs, outs, out)
	}
	return b
}

func first(list []int) []int { return list[:min(1, len(list))] }

// fill appends n places to list: those of a group, then loose ones, then fillings.
func fill(list, group, loose []int, n int) (filled, left []int) {
	k := min(n-len(group), len(loose))
	part := slices.Sorted(slices.Values(slices.Concat(group, loose[:k])))
	for len(part) < n {
		part = append(part, -1)
	}
	return append(list, part...), loose[k:]
}

// fit packs the components into g groups of equal size, nil when they do not fit.
func (c components) fit(g int) []component {
	if c.in%g != 0 || c.out%g != 0 {
		return nil
	}
	in, out := c.in/g, c.out/g
	bins := make([]component, g)
	for _, x := range c.list {
		best := -1
		for i := range bins {
			if len(bins[i].ins)+len(x.ins) > in || len(bins[i].outs)+len(x.outs) > out {
				continue
			}
			if best < 0 || len(bins[i].ins)+len(bins[i].outs) > len(bins[best].ins)+len(bins[best].outs) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		bins[best].add(x)
	}
	return bins
}

// spread packs the components into g groups, each into the one that makes the
// largest numbers of inputs and outputs of a group grow least.
func (c components) spread(g int) []component {
	bins := make([]component, g)
	in, out := 0, 0
	for _, x := range c.list {
		best, bestCost, bestLoad := 0, -1, 0
		for i := range bins {
			ni, no := len(bins[i].ins)+len(x.ins), len(bins[i].outs)+len(x.outs)
			if cost, load := max(in, ni)*max(out, no), ni+no; bestCost < 0 || cost < bestCost || cost == bestCost && load < bestLoad {
				best, bestCost, bestLoad = i, cost, load
			}
		}
		bins[best].add(x)
		in, out = max(in, len(bins[best].ins)), max(out, len(bins[best].outs))
	}
	return bins
}

func (x *component) add(y component) {
	x.ins, x.outs = append(x.ins, y.ins...), append(x.outs, y.outs...)
}

// check tells whether b can be made of s, whose kernels have been found: every
// channel has a place, and no kernel lies between groups.
func (b *Blocks) check(s *sink) error {
	bad := func(format string, v ...any) error {
		return fmt.Errorf("convolution %q: %s", s.node.Label(), fmt.Sprintf(format, v...))
	}
	if b.Groups < 2 || len(b.Inputs)%b.Groups != 0 || len(b.Outputs)%b.Groups != 0 || len(b.Inputs) > b.Groups*s.in.n || len(b.Outputs) > b.Groups*s.out.n {
		return bad("%d inputs and %d outputs are not %d groups", len(b.Inputs), len(b.Outputs), b.Groups)
	}
	groups := func(list []int, n int) ([]int, bool) {
		group := make([]int, n)
		left := n
		for i := range group {
			group[i] = -1
		}
		for i, c := range list {
			if c < -1 || c >= n || c >= 0 && group[c] >= 0 {
				return nil, false
			}
			if c >= 0 {
				group[c] = i / (len(list) / b.Groups)
				left--
			}
		}
		return group, left == 0
	}
	ins, ok1 := groups(b.Inputs, s.in.n)
	outs, ok2 := groups(b.Outputs, s.out.n)
	if !ok1 || !ok2 {
		return bad("a channel has no place, or more than one")
	}
	between := false
	for o := range s.out.n {
		s.columnsOf(o, func(c int) { between = between || ins[c] != outs[o] })
	}
	if between {
		return bad("a kernel that is not zero lies between two groups")
	}
	return nil
}
