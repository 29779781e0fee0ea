package compact

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/filterlens/filterlens/inspect"
)

// PlanSchema names the form of a Plan as JSON.
const PlanSchema = "filterlens.compact/1"

// Why a channel goes.
const (
	Unread   = "nothing reads it"
	Constant = "constant"
	Asked    = "asked for"
)

// Options say what may go beside what goes without a change of the answers.
type Options struct {
	// Remove has filters that are to go although they are alive, by the name of
	// their layer (inspect.Layer.Name of a convolution or matrix product of the
	// main graph). Whatever is coupled to one goes with it: see Groups. What read
	// it gets 0 instead; see Mask. The order within a layer is that of preference:
	// when not all can go, the last ones stay.
	Remove map[string][]int `json:"remove,omitempty"`
	// RoundTo keeps numbers of channels that are multiples of it, as far as a
	// tensor has so many: channels that could go stay. 0 and 1 keep any number. On a
	// CPU, ONNX Runtime computes blocks of 8 or 16 channels, and a depthwise
	// convolution with an odd number of them can take longer than the whole one.
	RoundTo int `json:"round_to,omitempty"`
}

// A Plan says which channels of a model go, and why others cannot.
type Plan struct {
	Schema  string  `json:"schema"`
	Model   string  `json:"model"`
	Options Options `json:"options"`
	// Groups are all groups of coupled channels, in the order of the graph.
	Groups []Group `json:"groups"`
	// Barriers are the operators that fix what they touch, in the order of the
	// graph.
	Barriers []Barrier `json:"barriers"`
	// Refused are filters that were asked for and stay.
	Refused []Refusal `json:"refused,omitempty"`
	// DroppedNodes and DroppedTensors are nodes and stored tensors that nothing
	// reads any more, or that nothing read before.
	DroppedNodes   []string `json:"dropped_nodes"`
	DroppedTensors []string `json:"dropped_tensors"`
	// Channels counts those of all groups, Removed those that go.
	Channels int `json:"channels"`
	Removed  int `json:"removed"`
	// Before and After are what the model costs; After is what package inspect
	// counts on the file that Apply writes.
	Before Cost `json:"before"`
	After  Cost `json:"after"`

	solved *solution
}

// A Cost is what package inspect counts on a file.
type Cost struct {
	// Bytes are those of the file and of the data stored beside it.
	Bytes      int64 `json:"bytes"`
	Parameters int64 `json:"parameters"`
	// MACs are multiply-accumulates for batch 1, nil when they are not known.
	MACs *int64 `json:"macs"`
}

// A Group is a set of channels that lie in the same tensors. Its channels are
// numbered from 0; one that goes takes its filters in all layers of the group
// along.
type Group struct {
	Size int `json:"size"`
	// Makers are the layers whose filters the channels are, Readers those that
	// read them with stored weights.
	Makers  []Maker  `json:"makers"`
	Readers []string `json:"readers"`
	// Tensors are the activations that the channels lie in.
	Tensors []string `json:"tensors"`
	// Parameters and MACs are what the model has less when one channel goes alone,
	// as package inspect counts them (MACs for batch 1). The columns of a grouped
	// convolution, which only several channels can take along, do not count.
	Parameters int64 `json:"parameters"`
	MACs       int64 `json:"macs"`
	// Fixed says why none of them can go; empty when they can.
	Fixed string `json:"fixed,omitempty"`
	// Removed are the channels that go, Restored those that could go and stay.
	// These lists are empty in what Groups returns.
	Removed  []Channel `json:"removed,omitempty"`
	Restored []Channel `json:"restored,omitempty"`
	// Stuck are channels that hold one number for every input and stay all the
	// same, because a padded convolution reads them and sees none at its border.
	Stuck []Channel `json:"stuck,omitempty"`
}

// A Channel is one of a group, and why it goes or stays.
type Channel struct {
	Channel int    `json:"channel"`
	Reason  string `json:"reason"`
	// Value is the number that a constant channel holds where it is first read.
	Value *float64 `json:"value,omitempty"`
}

// A Maker is a layer whose filters are channels of a group.
type Maker struct {
	Layer string `json:"layer"`
	// First and Each: channel c is Each filters from First + c*Each on (Each is
	// more than 1 for a depthwise convolution with a multiplier). Where the
	// filters lie otherwise, Each is 0 and Numbers has them.
	First   int     `json:"first"`
	Each    int     `json:"each"`
	Numbers [][]int `json:"numbers,omitempty"`
}

// Filters returns the filters of the layer that are one channel of the group,
// which must be at least 0 and below the group's Size. The caller may not change
// them.
func (m *Maker) Filters(channel int) []int {
	if m.Each == 0 {
		return m.Numbers[channel]
	}
	list := make([]int, m.Each)
	for i := range list {
		list[i] = m.First + channel*m.Each + i
	}
	return list
}

// A Barrier is an operator that fixes all channels of the tensors it touches.
type Barrier struct {
	// Index is the node's position in the graph.
	Index int    `json:"index"`
	Node  string `json:"node"`
	Op    string `json:"op"`
	// Tensors are the activations among its inputs and outputs.
	Tensors []string `json:"tensors"`
	Reason  string   `json:"reason"`
}

// A Refusal names filters that were asked for and stay.
type Refusal struct {
	Layer   string `json:"layer"`
	Filters []int  `json:"filters"`
	Reason  string `json:"reason"`
}

// A PlanError says that a plan was not made for a model.
type PlanError struct {
	File   string
	Reason string
}

func (e *PlanError) Error() string {
	return e.File + ": the plan does not fit this model: " + e.Reason + "; make a new one"
}

// NewPlan finds what can go from m without a change of what it computes, and what
// goes with the filters that opt asks for. It reads the weights of convolutions
// and matrix products, block by block; of each kernel one bit stays in memory. m
// must be open.
//
// A quantized model, one with a training graph and one that was read from a
// report is a *RefusedError, a filter that does not exist a *FilterError; other
// errors are those of m.Check and of reading the weights, and ctx's.
func NewPlan(ctx context.Context, m *inspect.Model, opt Options) (*Plan, error) {
	a, err := analyse(ctx, m, true)
	if err != nil {
		return nil, err
	}
	list, refused, err := a.wanted(opt.Remove)
	if err != nil {
		return nil, err
	}
	s, err := a.solve(ctx, list, opt.RoundTo)
	if err != nil {
		return nil, err
	}
	p := &Plan{Schema: PlanSchema, Model: m.File, Options: opt, Groups: a.groups(), Barriers: a.barriers, Refused: refused,
		DroppedNodes: []string{}, DroppedTensors: []string{}, solved: s,
		Before: Cost{Bytes: m.FileBytes + m.ExternalBytes, Parameters: m.Totals.Parameters, MACs: m.Totals.MACs}}
	if p.Barriers == nil {
		p.Barriers = []Barrier{}
	}
	p.tell(s)
	if err := p.cost(ctx, s); err != nil {
		return nil, err
	}
	return p, nil
}

// Groups returns the groups of coupled channels of m alone: which filters of
// which layers can only go together, and which cannot go at all. It does not read
// the weights of convolutions and matrix products. Its errors are those of
// NewPlan.
func Groups(ctx context.Context, m *inspect.Model) ([]Group, error) {
	a, err := analyse(ctx, m, false)
	if err != nil {
		return nil, err
	}
	return a.groups(), nil
}

// solution returns what p decided, which is found again when p was read from a
// file.
func (p *Plan) solution(ctx context.Context, m *inspect.Model) (*solution, error) {
	if p.solved != nil && p.solved.a.m == m {
		return p.solved, nil
	}
	if p.Schema != PlanSchema {
		return nil, &PlanError{p.Model, fmt.Sprintf("its schema is %q, not %q", p.Schema, PlanSchema)}
	}
	q, err := NewPlan(ctx, m, p.Options)
	if err != nil {
		return nil, err
	}
	if len(q.Groups) != len(p.Groups) {
		return nil, &PlanError{m.File, fmt.Sprintf("it has %d groups, the model has %d", len(p.Groups), len(q.Groups))}
	}
	for i := range q.Groups {
		if !reflect.DeepEqual(channels(q.Groups[i].Removed), channels(p.Groups[i].Removed)) {
			return nil, &PlanError{m.File, fmt.Sprintf("group %d loses other channels", i)}
		}
	}
	return q.solved, nil
}

func channels(list []Channel) (out []int) {
	for _, c := range list {
		out = append(out, c.Channel)
	}
	return out
}

// maker is a node whose output has filters, by the name of its layer.
func (a *analysis) makers() map[string]*track {
	out := map[string]*track{}
	for i := range a.m.Layers {
		l := &a.m.Layers[i]
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if t := a.live[l.OutTensor]; l.Scope == "" && t != nil && out[l.Name] == nil {
				out[l.Name] = t
			}
		}
	}
	return out
}

// wanted returns the channels that are asked for, in order of preference, and
// those that cannot go.
func (a *analysis) wanted(remove map[string][]int) (list []int, refused []Refusal, err error) {
	makers := a.makers()
	type wish struct{ c, rank, layer int }
	var wishes []wish
	for i, layer := range slices.Sorted(maps.Keys(remove)) {
		t := makers[layer]
		if t == nil {
			return nil, nil, &FilterError{a.m.File, layer, -1, "there is no such convolution or matrix product in the main graph"}
		}
		stay := map[string][]int{}
		var reasons []string
		for rank, f := range remove[layer] {
			if f < 0 || f >= t.n {
				return nil, nil, &FilterError{a.m.File, layer, f, fmt.Sprintf("it has filters 0 to %d", t.n-1)}
			}
			c := int(a.class[t.base+f])
			if why := a.pinned[c]; why != "" {
				if stay[why] == nil {
					reasons = append(reasons, why)
				}
				stay[why] = append(stay[why], f)
				continue
			}
			wishes = append(wishes, wish{c, rank, i})
		}
		for _, why := range reasons {
			refused = append(refused, Refusal{layer, stay[why], why})
		}
	}
	slices.SortStableFunc(wishes, func(x, y wish) int { return x.rank - y.rank })
	seen := map[int]bool{}
	for _, w := range wishes {
		if !seen[w.c] {
			list = append(list, w.c)
			seen[w.c] = true
		}
	}
	return list, refused, nil
}

// groups sorts the channels by the tensors that they lie in.
func (a *analysis) groups() []Group {
	list, _ := a.grouping()
	return list
}

// grouping returns the groups and the channels of each.
func (a *analysis) grouping() (groups []Group, members [][]int) {
	number := map[string]int{}
	for c := range a.count {
		var key []byte
		last := int32(-1)
		active := false
		for _, s := range a.members(c) {
			if o := a.owner[s]; o != last {
				key = fmt.Appendf(key, "%d,", o)
				active = active || !a.tracks[o].stored
				last = o
			}
		}
		if !active {
			continue
		}
		i, ok := number[string(key)]
		if !ok {
			i = len(groups)
			number[string(key)] = i
			groups, members = append(groups, Group{Fixed: a.pinned[c]}), append(members, nil)
		}
		members[i] = append(members[i], c)
	}
	makers, readers := map[int32][]string{}, map[int32][]string{}
	for i := range a.m.Layers {
		l := &a.m.Layers[i]
		if l.Scope != "" {
			continue
		}
		switch l.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			if t := a.live[l.OutTensor]; t != nil {
				o := a.owner[t.base]
				makers[o] = append(makers[o], l.Name)
			}
		}
	}
	for _, k := range a.sinks {
		o := a.owner[k.in.base]
		readers[o] = append(readers[o], k.node.Label())
	}
	price := a.price()
	for i := range groups {
		g := &groups[i]
		g.Parameters, g.MACs = price(members[i][0])
		g.Size, g.Makers, g.Readers, g.Tensors = len(members[i]), []Maker{}, []string{}, []string{}
		last := int32(-1)
		for _, s := range a.members(members[i][0]) {
			o := a.owner[s]
			if t := a.tracks[o]; o != last && !t.stored {
				g.Tensors = append(g.Tensors, t.name)
				for _, layer := range makers[o] {
					g.Makers = append(g.Makers, a.maker(layer, t, members[i]))
				}
				g.Readers = append(g.Readers, readers[o]...)
			}
			last = o
		}
	}
	return groups, members
}

// maker tells which filters of a layer the channels of a group are.
func (a *analysis) maker(layer string, t *track, list []int) Maker {
	m := Maker{Layer: layer}
	numbers := make([][]int, len(list))
	regular := true
	for i, c := range list {
		for _, s := range a.members(c) {
			if f := int(s) - t.base; f >= 0 && f < t.n {
				numbers[i] = append(numbers[i], f)
			}
		}
		for j, f := range numbers[i] {
			regular = regular && len(numbers[i]) == len(numbers[0]) && f == numbers[0][0]+i*len(numbers[0])+j
		}
	}
	if regular {
		m.First, m.Each = numbers[0][0], len(numbers[0])
	} else {
		m.Numbers = numbers
	}
	return m
}

// tell fills p with what s decided.
func (p *Plan) tell(s *solution) {
	_, members := s.a.grouping()
	for i, list := range members {
		g := &p.Groups[i]
		p.Channels += len(list)
		for k, c := range list {
			switch {
			case s.gone(c):
				p.Removed++
				g.Removed = append(g.Removed, s.channel(k, c))
			case s.extra[c] != "":
				g.Restored = append(g.Restored, Channel{Channel: k, Reason: s.extra[c]})
			case s.stuck(c):
				x := s.value(c)
				reason := "a reader cannot make up for it"
				if at, ok := s.anchor[i]; ok && at == c {
					reason = "it stands for other constants of the group"
				}
				g.Stuck = append(g.Stuck, Channel{Channel: k, Reason: reason, Value: &x})
			}
		}
	}
	makers := s.a.makers()
	for _, layer := range slices.Sorted(maps.Keys(p.Options.Remove)) {
		t := makers[layer]
		stay := map[string][]int{}
		var reasons []string
		for _, f := range p.Options.Remove[layer] {
			c := int(s.a.class[t.base+f])
			if why := s.extra[c]; !s.gone(c) && why != "" {
				if stay[why] == nil {
					reasons = append(reasons, why)
				}
				stay[why] = append(stay[why], f)
			}
		}
		for _, why := range reasons {
			p.Refused = append(p.Refused, Refusal{layer, stay[why], why})
		}
	}
}

func (s *solution) channel(k, c int) Channel {
	switch s.why[c] {
	case unread:
		return Channel{Channel: k, Reason: Unread}
	case asked:
		return Channel{Channel: k, Reason: Asked}
	}
	out := Channel{Channel: k, Reason: Constant}
	for _, slot := range s.a.members(c) {
		for _, r := range s.readsOf[s.a.owner[slot]] {
			place := int(slot) - r.in.base
			if x, _ := s.foldable(r, place); x == x && r.count[place] > 0 {
				out.Value = &x
				return out
			}
		}
	}
	return out
}
