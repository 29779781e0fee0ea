package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// maxBlocks bounds the blocks that a large graph is collapsed into.
const maxBlocks = 300

// A block is a part of a graph that is drawn as one box.
type block struct {
	name  string
	nodes []int // positions among the drawn nodes, in the order in which they run
}

func blockID(i int) string { return "b" + strconv.Itoa(i) }

// collapse assigns the drawn nodes to blocks: by module path, as deep as leaves
// no more than maxBlocks of them; where names tell too little, by cutting the
// order in which nodes run where few tensors pass.
func (n *network) collapse() {
	if !n.collapseByName() {
		n.collapseByCuts()
	}
	n.block = make([]int, len(n.drawn))
	for i, b := range n.blocks {
		for _, k := range b.nodes {
			n.block[k] = i
		}
	}
}

func (n *network) collapseByName() bool {
	paths := make([][]string, len(n.drawn))
	named, deepest := 0, 0
	for i, node := range n.drawn {
		l := inspect.Layer{Name: node.Name, Op: node.Op, OutTensor: node.Output(0)}
		for _, own := range n.layers[node.Index] {
			if own.Scope == "" {
				l = own
			}
		}
		paths[i] = Modules(&l)
		if len(paths[i]) > 0 {
			named++
		} else if i > 0 {
			// A node without a name belongs to what runs before it.
			paths[i] = paths[i-1]
		}
		deepest = max(deepest, len(paths[i]))
	}
	if 2*named < len(n.drawn) {
		return false
	}
	for depth := min(deepest, 16); depth > 0; depth-- {
		blocks, ok := groupByPath(paths, depth)
		if !ok {
			continue
		}
		// Too few say nothing of the model's form.
		if len(blocks) < 4 {
			return false
		}
		n.blocks = blocks
		return true
	}
	return false
}

// groupByPath is not ok when there are more than maxBlocks groups.
func groupByPath(paths [][]string, depth int) (blocks []block, ok bool) {
	index := make(map[string]int)
	for i, p := range paths {
		name := strings.Join(p[:min(depth, len(p))], ".")
		k, seen := index[name]
		if !seen {
			if len(blocks) == maxBlocks {
				return nil, false
			}
			k = len(blocks)
			index[name] = k
			blocks = append(blocks, block{name: name})
		}
		blocks[k].nodes = append(blocks[k].nodes, i)
	}
	return blocks, true
}

// collapseByCuts makes blocks of about equal size that follow each other.
func (n *network) collapseByCuts() {
	total := len(n.drawn)
	// passing[i] counts the lines that lead from before position i to i or after.
	passing := make([]int, total+1)
	for i, next := range n.next {
		last := i
		for _, k := range next {
			last = max(last, k)
		}
		if last > i {
			passing[i+1]++
			if last < total {
				passing[last+1]--
			}
		}
	}
	for i := 1; i <= total; i++ {
		passing[i] += passing[i-1]
	}
	size := max(12, (total+maxBlocks/2-1)/(maxBlocks/2))
	for begin := 0; begin < total; {
		end := total
		if begin+2*size < total {
			end = begin + size
			for d := 1; d <= size/2; d++ {
				for _, at := range []int{begin + size - d, begin + size + d} {
					if passing[at] < passing[end] {
						end = at
					}
				}
			}
		}
		b := block{name: fmt.Sprintf("part %d", len(n.blocks)+1)}
		for i := begin; i < end; i++ {
			b.nodes = append(b.nodes, i)
		}
		n.blocks = append(n.blocks, b)
		begin = end
	}
}

// blockSums adds up the layers of a block.
func (n *network) blockSums(b block) (parameters int64, macs *int64, layers int) {
	unknown := 0
	for _, i := range b.nodes {
		for _, l := range n.layers[n.drawn[i].Index] {
			layers++
			parameters = plus(parameters, l.Parameters)
			macs, unknown = plusKnown(macs, unknown, l.MACs)
		}
	}
	return parameters, macs, layers
}

func (n *network) blockOperators(b block) (count map[string]int, family string) {
	count = make(map[string]int)
	byFamily := make(map[string]int)
	for _, i := range b.nodes {
		node := n.drawn[i]
		count[node.Op]++
		byFamily[n.family(node.Op, node.Domain)]++
	}
	// What carries the weights stands for a block, however many others there are.
	for _, f := range []string{"conv", "linear", "seq"} {
		if byFamily[f] > 0 {
			return count, f
		}
	}
	family = "other"
	for _, f := range families() {
		if byFamily[f.name] > byFamily[family] {
			family = f.name
		}
	}
	return count, family
}

func (n *network) blockBox(i int, b block) htmlNode {
	count, family := n.blockOperators(b)
	parameters, macs, _ := n.blockSums(b)
	ops := strings.TrimPrefix(operatorCounts(count, 2), ": ")
	box := htmlNode{ID: blockID(i), Kind: "block", Family: family, Op: shown(b.title()), Name: plural(len(b.nodes), "node") + ": " + ops,
		Full: shown(b.title()) + "\n" + plural(len(b.nodes), "node") + operatorCounts(count, 8)}
	if parameters > 0 || macs != nil {
		box.Line3 = Scaled(parameters).Text + " parameters, " + optional(macs, Scaled, absent).Text + " MACs"
	}
	return box.box()
}

func (b block) title() string {
	if b.name == "" {
		return "(top)"
	}
	return b.name
}

func (n *network) blockDetail(i int, b block) detail {
	parameters, macs, layers := n.blockSums(b)
	count, _ := n.blockOperators(b)
	d := detail{Op: "block", Name: shown(b.title()), Facts: [][2]string{{"nodes", grouped(int64(len(b.nodes))) + operatorCounts(count, 12)}, {"layers", grouped(int64(layers))},
		{"parameters", grouped(parameters)}, {"MACs", optional(macs, Count, absent).Text}}}
	const listed = 200
	for _, k := range b.nodes[:min(len(b.nodes), listed)] {
		node := n.drawn[k]
		it := item{Name: shown(node.Label()), Text: shown(node.Op)}
		if id := n.id(node); id != "" {
			it.To = []string{id}
		}
		d.Nodes = append(d.Nodes, it)
	}
	if left := len(b.nodes) - listed; left > 0 {
		d.Nodes = append(d.Nodes, item{Name: "and " + grouped(int64(left)) + " more"})
	}
	return d
}

// blockViews draws the inner of blocks, in order, while there is room for them.
// What a block reads from or gives to other blocks stands at its border.
func (n *network) blockViews() ([]htmlView, error) {
	var views []htmlView
	budget := maxOpened
	from := make([][]int, len(n.drawn))
	for i, next := range n.next {
		for _, k := range next {
			from[k] = append(from[k], i)
		}
	}
	for i, b := range n.blocks {
		if len(b.nodes) > maxDrawn || len(b.nodes) > budget || n.at[n.drawn[b.nodes[len(b.nodes)-1]].Index] >= maxDetail {
			continue
		}
		budget -= len(b.nodes)
		s := newSketch()
		key := func(k int) string { return "n" + strconv.Itoa(n.drawn[k].Index) }
		for _, k := range b.nodes {
			s.add(key(k), n.nodeBox(n.drawn[k]))
		}
		border := func(k int, word string) string {
			id := word + blockID(n.block[k])
			if _, ok := s.index[id]; !ok {
				other := n.blocks[n.block[k]]
				s.add(id, htmlNode{ID: blockID(n.block[k]), Kind: "io", Family: "io", Op: word, Name: shown(other.title()), Full: word + " " + shown(other.title())}.box())
			}
			return id
		}
		for _, k := range b.nodes {
			for _, p := range from[k] {
				if n.block[p] == i {
					s.connect(key(p), key(k))
				} else {
					s.connect(border(p, "from"), key(k))
				}
			}
			for _, p := range n.next[k] {
				if n.block[p] != i {
					s.connect(key(k), border(p, "to"))
				}
			}
		}
		slices.SortStableFunc(s.edges, func(a, b [2]int) int { return a[0] - b[0] })
		v, _, err := s.view(blockID(i), true)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}
