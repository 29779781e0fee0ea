package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
)

// CompareDescriptions compares what inspect tells of two models, one of which at
// least is only known by its saved report. Layers are paired by name, the others in
// order by operator, attributes and shapes.
func CompareDescriptions(a, b *inspect.Model) *DescriptionDelta {
	d := &DescriptionDelta{Changes: []delta.Change{}, Layers: []DescribedChange{}}
	d.facts(a, b)
	partner := pairLayers(a.Layers, b.Layers)
	taken := make([]bool, len(b.Layers))
	next := 0
	added := func(to int) {
		for ; next < to; next++ {
			if !taken[next] && !slices.Contains(partner, next) {
				d.Layers = append(d.Layers, DescribedChange{Kind: delta.Added, B: b.Layers[next].Name, Op: b.Layers[next].Op})
			}
		}
	}
	for i := range a.Layers {
		x := &a.Layers[i]
		j := partner[i]
		if j < 0 {
			d.Layers = append(d.Layers, DescribedChange{Kind: delta.Removed, A: x.Name, Op: x.Op})
			continue
		}
		added(j)
		taken[j] = true
		y := &b.Layers[j]
		c := DescribedChange{Kind: delta.Kept, A: x.Name, B: y.Name, Op: y.Op, Changes: layerChanges(x, y)}
		switch {
		case slices.ContainsFunc(c.Changes, func(c delta.Change) bool { return describedAspect(c.What) != AspectWriting }):
			c.Kind = delta.Changed
		case x.Name != y.Name:
			c.Kind = delta.Renamed
		}
		d.Layers = append(d.Layers, c)
	}
	added(len(b.Layers))
	return d
}

// facts compares what is said of the files as a whole.
func (d *DescriptionDelta) facts(a, b *inspect.Model) {
	add := func(what, name, from, to string) {
		if from != to {
			d.Changes = append(d.Changes, delta.Change{What: what, Name: name, From: from, To: to})
		}
	}
	number := func(v int64) string { return strconv.FormatInt(v, 10) }
	table := func(what string, of func(*inspect.Model, func(key, value string))) {
		var keys []string
		values := [2]map[string]string{{}, {}}
		for i, m := range []*inspect.Model{a, b} {
			of(m, func(key, value string) {
				if !slices.Contains(keys, key) && len(keys) < 1<<12 {
					keys = append(keys, key)
				}
				values[i][key] = value
			})
		}
		for _, k := range keys {
			add(what, k, values[0][k], values[1][k])
		}
	}
	add("ir_version", "", number(a.IRVersion), number(b.IRVersion))
	table("opset", func(m *inspect.Model, yield func(key, value string)) {
		for _, o := range m.Opsets {
			yield(cmp.Or(o.Domain, "ai.onnx"), number(o.Version))
		}
	})
	add("producer_name", "", a.Producer, b.Producer)
	add("producer_version", "", a.ProducerVersion, b.ProducerVersion)
	add("domain", "", a.Domain, b.Domain)
	add("model_version", "", number(a.ModelVersion), number(b.ModelVersion))
	table("metadata", func(m *inspect.Model, yield func(key, value string)) {
		for _, kv := range m.Metadata {
			yield(kv.Key, kv.Value)
		}
	})
	table("input", func(m *inspect.Model, yield func(key, value string)) { describeValues(m.Inputs, yield) })
	table("output", func(m *inspect.Model, yield func(key, value string)) { describeValues(m.Outputs, yield) })
	table("operator", func(m *inspect.Model, yield func(key, value string)) {
		for _, o := range m.Operators {
			name := o.Op
			if o.Domain != "" {
				name = o.Domain + "." + name
			}
			yield(name, strconv.Itoa(o.Count))
		}
	})
}

func numberText(v *int64) string {
	if v == nil {
		return "unknown"
	}
	return strconv.FormatInt(*v, 10)
}

// describeValues yields inputs or outputs; the names of symbolic dimensions do not
// count.
func describeValues(list []inspect.Value, yield func(key, value string)) {
	for _, v := range list {
		dims := make([]string, len(v.Shape.Dims))
		for i, d := range v.Shape.Dims {
			dims[i] = "?"
			if d.Value >= 0 {
				dims[i] = strconv.FormatInt(d.Value, 10)
			}
		}
		shape := "unknown shape"
		if v.Shape.Known {
			shape = "[" + strings.Join(dims, ",") + "]"
		}
		yield(v.Name, cmp.Or(v.DType, "unknown")+" "+shape)
	}
}

// describedAspect is the aspect that a change of a description belongs to.
func describedAspect(what string) string {
	switch what {
	case "input", "output":
		return AspectInterface
	case "ir_version", "opset", "producer_name", "producer_version", "domain", "model_version", "metadata":
		return AspectMetadata
	case "zeros":
		return AspectWeights
	case "weight_bytes":
		return AspectWriting
	}
	return AspectStructure
}

// layerChanges says what differs between two layers that are paired.
func layerChanges(x, y *inspect.Layer) (list []delta.Change) {
	add := func(what, from, to string) {
		if from != to {
			list = append(list, delta.Change{What: what, From: from, To: to})
		}
	}
	number := func(v int64) string { return strconv.FormatInt(v, 10) }
	add("operator", x.Op, y.Op)
	add("kernel", joined(x.Kernel), joined(y.Kernel))
	add("strides", joined(x.Strides), joined(y.Strides))
	add("dilations", joined(x.Dilations), joined(y.Dilations))
	add("pads", joined(x.Pads), joined(y.Pads))
	add("auto_pad", x.AutoPad, y.AutoPad)
	add("group", number(x.Group), number(y.Group))
	add("in", anyShape(x.In), anyShape(y.In))
	add("out", anyShape(x.Out), anyShape(y.Out))
	add("parameters", number(x.Parameters), number(y.Parameters))
	add("macs", numberText(x.MACs), numberText(y.MACs))
	add("weight_bytes", number(x.WeightBytes), number(y.WeightBytes))
	if x.Zeros != nil && y.Zeros != nil {
		add("zeros", Share(*x.Zeros).Text, Share(*y.Zeros).Text)
	}
	return list
}

// anyShape writes a shape without the names of symbolic dimensions.
func anyShape(s inspect.Shape) string {
	if !s.Known {
		return ""
	}
	dims := make([]string, len(s.Dims))
	for i, d := range s.Dims {
		dims[i] = "?"
		if d.Value >= 0 {
			dims[i] = strconv.FormatInt(d.Value, 10)
		}
	}
	return strings.Join(dims, "x")
}

// maxAligned bounds the pairs of layers that are looked at.
const maxAligned = 1 << 22

// pairLayers returns for each layer of a its partner in b, -1 for none: the one of
// the same name where only one on each side has it, else the one that an alignment
// of the layers between gives that pairs as many alike as possible (Needleman and
// Wunsch, 1970).
func pairLayers(a, b []inspect.Layer) []int {
	partner := make([]int, len(a))
	for i := range partner {
		partner[i] = -1
	}
	type key struct{ scope, name string }
	once := func(list []inspect.Layer) map[key]int {
		at := map[key]int{}
		for i, l := range list {
			k := key{l.Scope, l.Name}
			if _, twice := at[k]; twice {
				at[k] = -1
			} else {
				at[k] = i
			}
		}
		return at
	}
	inB := once(b)
	taken := make([]bool, len(b))
	for k, i := range once(a) {
		if j, ok := inB[k]; ok && i >= 0 && j >= 0 {
			partner[i], taken[j] = j, true
		}
	}
	from, at := 0, 0 // the gap that is open
	for i := 0; i <= len(a); i++ {
		to := len(b)
		if i < len(a) {
			if partner[i] < 0 {
				continue
			}
			to = partner[i]
		}
		if to >= at { // names in another order end no gap
			alignGap(a, b, from, i, at, to, partner, taken)
			at = to + 1
		}
		from = i + 1
	}
	return partner
}

// alignGap pairs the free layers of a[from:to] with those of b[at:end].
func alignGap(a, b []inspect.Layer, from, to, at, end int, partner []int, taken []bool) {
	var x, y []int
	for i := from; i < to; i++ {
		if partner[i] < 0 {
			x = append(x, i)
		}
	}
	for j := at; j < end; j++ {
		if !taken[j] {
			y = append(y, j)
		}
	}
	pair := func(i, j int) { partner[i], taken[j] = j, true }
	// What is alike at both ends needs no search.
	for len(x) > 0 && len(y) > 0 && likeLayers(&a[x[0]], &b[y[0]]) == alike {
		pair(x[0], y[0])
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && likeLayers(&a[x[len(x)-1]], &b[y[len(y)-1]]) == alike {
		pair(x[len(x)-1], y[len(y)-1])
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	n, m := len(x), len(y)
	if n == 0 || m == 0 || n > maxAligned/m {
		return
	}
	best := make([]int32, (n+1)*(m+1)) // of x[i:] and y[j:]
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			s := max(best[(i+1)*(m+1)+j], best[i*(m+1)+j+1])
			if l := likeLayers(&a[x[i]], &b[y[j]]); l > 0 {
				s = max(s, l+best[(i+1)*(m+1)+j+1])
			}
			best[i*(m+1)+j] = s
		}
	}
	for i, j := 0, 0; i < n && j < m; {
		l := likeLayers(&a[x[i]], &b[y[j]])
		switch {
		case l > 0 && best[i*(m+1)+j] == l+best[(i+1)*(m+1)+j+1]:
			pair(x[i], y[j])
			i, j = i+1, j+1
		case best[i*(m+1)+j] == best[(i+1)*(m+1)+j]:
			i++
		default:
			j++
		}
	}
}

// alike is the likeness of layers that differ in name only.
const alike = 8

// likeLayers says how alike two layers are, 0 for other operators.
func likeLayers(x, y *inspect.Layer) int32 {
	if x.Op != y.Op || x.Scope != y.Scope && (x.Scope == "" || y.Scope == "") {
		return 0
	}
	n := int32(1)
	for _, same := range []bool{slices.Equal(x.Kernel, y.Kernel), slices.Equal(x.Strides, y.Strides) && slices.Equal(x.Dilations, y.Dilations) && slices.Equal(x.Pads, y.Pads), x.Group == y.Group} {
		if same {
			n++
		}
	}
	if anyShape(x.Out) == anyShape(y.Out) {
		n += 2
	}
	if x.Parameters == y.Parameters {
		n += 2
	}
	return n
}

// leave takes out of d what is not to be compared.
func (d *DescriptionDelta) leave(c CompareChoice) {
	names := nameChoice{}
	_, names.only = split(c.Only)
	_, names.ignore = split(c.Ignore)
	d.Changes = slices.DeleteFunc(d.Changes, func(x delta.Change) bool {
		return !c.Wants(describedAspect(x.What)) || !names.takes(x.What, x.Name)
	})
	d.Layers = slices.DeleteFunc(d.Layers, func(l DescribedChange) bool {
		own := []string{l.A, LayerName(l.Op, l.A), l.B, LayerName(l.Op, l.B)}
		return !names.takes(own...) || l.Kind != delta.Kept && l.Kind != delta.Renamed && len(l.Changes) == 0 && !c.Wants(AspectStructure)
	})
	for i := range d.Layers {
		l := &d.Layers[i]
		l.Changes = slices.DeleteFunc(l.Changes, func(x delta.Change) bool { return !c.Wants(describedAspect(x.What)) })
		if l.Kind == delta.Changed && !slices.ContainsFunc(l.Changes, func(x delta.Change) bool { return describedAspect(x.What) != AspectWriting }) {
			l.Kind = delta.Kept
			if l.A != l.B {
				l.Kind = delta.Renamed
			}
		}
		if l.Kind == delta.Renamed && !c.Wants(AspectNames) {
			l.Kind = delta.Kept
		}
	}
}

// SetDescription takes over what reports of two models tell, less what c leaves
// out. It changes d.
func (r *Compared) SetDescription(d *DescriptionDelta, c CompareChoice) {
	d.leave(c)
	r.Description = d
}

// differences says what differs in each aspect.
func (d *DescriptionDelta) differences(found map[string]string, say func(aspect, what string)) {
	var metadata []delta.Change
	var values []string
	totals := 0
	for _, c := range d.Changes {
		switch describedAspect(c.What) {
		case AspectMetadata:
			metadata = append(metadata, c)
		case AspectInterface:
			values = append(values, fmt.Sprintf("%s %q", c.What, c.Name))
		default:
			totals++
		}
	}
	if metadata != nil {
		say(AspectMetadata, metadataText(metadata))
	}
	if values != nil {
		say(AspectInterface, few(values))
	}
	renamed, changed, added, removed, zeros, written := 0, 0, 0, 0, 0, 0
	for _, l := range d.Layers {
		switch l.Kind {
		case delta.Added:
			added++
		case delta.Removed:
			removed++
		}
		if l.A != "" && l.B != "" && l.A != l.B {
			renamed++
		}
		has := func(aspect string) bool {
			return slices.ContainsFunc(l.Changes, func(x delta.Change) bool { return describedAspect(x.What) == aspect })
		}
		if has(AspectStructure) {
			changed++
		}
		if has(AspectWeights) {
			zeros++
		}
		if has(AspectWriting) {
			written++
		}
	}
	if renamed > 0 {
		found[AspectNames] = "names of " + plural(renamed, "layer")
	}
	if written > 0 {
		found[AspectWriting] = "bytes of the weights of " + plural(written, "layer")
	}
	switch s := counted(part{changed, "changed"}, part{added, "added"}, part{removed, "removed"}); {
	case s != "":
		say(AspectStructure, "layers: "+s)
	case totals > 0:
		say(AspectStructure, "the numbers of operators")
	}
	if zeros > 0 {
		say(AspectWeights, "zeros of "+plural(zeros, "layer"))
	}
}

// layerSection shows what became of the layers that are described.
func (d *DescriptionDelta) layerSection(v CompareView) Section {
	t := &Table{Columns: []Column{{}, {Title: "operator"}, {Title: "layer", Shrink: true}, {Title: "what differs", Sparse: true, Wrap: true}}}
	same, renamed, shown := 0, 0, 0
	fold := func() {
		if same == 0 {
			return
		}
		s := grouped(int64(same)) + " the same"
		if renamed > 0 {
			s += fmt.Sprintf(" (%s renamed)", grouped(int64(renamed)))
		}
		t.Rows = append(t.Rows, []Cell{none, {Text: "...", Tone: Faint}, {Text: s, Tone: Faint}, none})
		same, renamed = 0, 0
	}
	for _, l := range d.Layers {
		if !v.All && (l.Kind == delta.Kept || l.Kind == delta.Renamed) {
			same++
			if l.Kind == delta.Renamed {
				renamed++
			}
			continue
		}
		if shown++; v.Top > 0 && shown > v.Top {
			continue
		}
		fold()
		var words []string
		for _, c := range l.Changes {
			words = append(words, strings.ReplaceAll(c.What, "_", " ")+" "+cmp.Or(c.From, "none")+" -> "+cmp.Or(c.To, "none"))
		}
		mark := sign(l.Kind)
		name := layerName(l.Op, cmp.Or(l.A, l.B))
		if l.A != "" && l.B != "" && l.A != l.B {
			name = Cell{Text: l.A + " -> " + l.B, Short: LayerName(l.Op, l.A) + " -> " + LayerName(l.Op, l.B)}
		}
		name.Tone = mark.Tone
		t.Rows = append(t.Rows, []Cell{mark, {Text: l.Op, Tone: mark.Tone}, name, Words(strings.Join(words, ", "))})
	}
	if len(t.Rows) == 0 {
		return Section{}
	}
	fold()
	s := Section{Title: "Layers", Table: t}
	if v.Top > 0 && shown > v.Top {
		s.Notes = []string{"not listed: " + plural(shown-v.Top, "layer")}
	}
	return s
}

// table has a row for each change.
func (d *DescriptionDelta) table(v CompareView) *Table {
	t := changeTable()
	for _, c := range d.Changes {
		t.add(changeKind(c), []string{describedAspect(c.What), c.What, "", "", "", c.Name, c.From, c.To})
	}
	for _, l := range d.Layers {
		if l.Kind != delta.Changed && l.Kind != delta.Kept || v.All && len(l.Changes) == 0 {
			aspect := AspectStructure
			if l.Kind == delta.Renamed {
				aspect = AspectNames
			}
			t.add(l.Kind, []string{aspect, "layer", l.Op, l.A, l.B, "", "", ""})
		}
		for _, c := range l.Changes {
			t.add(delta.Changed, []string{describedAspect(c.What), c.What, l.Op, l.A, l.B, "", c.From, c.To})
		}
	}
	return t
}
