package gorgonia

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/filterlens/filterlens/inspect/engine/gorgonia/compute"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// rulesShape has the operators that describe or change shapes, and those that move
// numbers about.
func rulesShape() map[string]rule {
	integers := typeSet(1 << onnxfile.Int64)
	withAxes := []typeSet{anySet, integers}
	any1 := []typeSet{anySet}
	all := map[string]rule{
		"Shape":          {attributes: []string{"start", "end"}, least: 1, most: 1, types: any1, empty: true, bind: bindShape},
		"Size":           {least: 1, most: 1, types: any1, empty: true, bind: bindSize},
		"Flatten":        {attributes: []string{"axis"}, least: 1, most: 1, types: any1, empty: true, bind: bindFlatten},
		"Reshape":        {attributes: []string{"allowzero"}, least: 2, most: 2, types: withAxes, empty: true, bind: bindReshape},
		"Squeeze":        {attributes: []string{"axes"}, least: 1, most: 2, types: withAxes, empty: true, check: checkAxes, bind: bindSqueeze},
		"Unsqueeze":      {attributes: []string{"axes"}, least: 1, most: 2, types: withAxes, empty: true, check: checkAxes, bind: bindUnsqueeze},
		"Identity":       {least: 1, most: 1, types: any1, empty: true, bind: bindIdentity},
		"Dropout":        {attributes: []string{"ratio", "seed"}, least: 1, most: 3, outputs: 2, types: []typeSet{realSet | halfSet, realSet | halfSet, boolSet}, empty: true, bind: bindDropout},
		"Concat":         {attributes: []string{"axis"}, least: 1, most: 1 << 10, types: any1, empty: true, bind: bindConcat},
		"Split":          {attributes: []string{"axis", "num_outputs", "split"}, least: 1, most: 2, outputs: 1 << 10, types: withAxes, empty: true, check: checkSplit, bind: bindSplit},
		"Transpose":      {attributes: []string{"perm"}, least: 1, most: 1, types: any1, empty: true, bind: bindTranspose},
		"Slice":          {attributes: []string{"axes", "ends", "starts"}, least: 1, most: 5, types: []typeSet{anySet, indexSet}, empty: true, check: checkSlice, bind: bindSlice},
		"Expand":         {least: 2, most: 2, types: withAxes, empty: true, bind: bindExpand},
		"Tile":           {least: 2, most: 2, types: withAxes, empty: true, bind: bindTile},
		"Pad":            {attributes: []string{"mode", "pads", "value"}, least: 1, most: 4, types: []typeSet{anySet, integers, anySet, indexSet}, empty: true, check: checkPad, bind: bindPad},
		"Gather":         {attributes: []string{"axis"}, least: 2, most: 2, types: []typeSet{anySet, indexSet}, empty: true, bind: bindGather},
		"GatherElements": {attributes: []string{"axis"}, least: 2, most: 2, types: []typeSet{anySet, indexSet}, empty: true, bind: bindGatherElements},
		"GatherND":       {attributes: []string{"batch_dims"}, least: 2, most: 2, types: withAxes, bind: bindGatherND},
		"DepthToSpace":   {attributes: []string{"blocksize", "mode"}, least: 1, most: 1, types: any1, bind: bindDepthToSpace},
		"SpaceToDepth":   {attributes: []string{"blocksize", "mode"}, least: 1, most: 1, types: any1, bind: bindSpaceToDepth},
		"Trilu":          {attributes: []string{"upper"}, least: 1, most: 2, types: withAxes, empty: true, bind: bindTrilu},
	}
	maps.Copy(all, rulesMake())
	maps.Copy(all, rulesResize())
	maps.Copy(all, rulesQuantize())
	return all
}

// bindShape knows the dimensions when the shape is planned, whatever the tensor
// holds.
func bindShape(b *binder) (kernel, error) {
	shape := b.in[0].shape
	clamp := func(a int64) int {
		if a < 0 {
			a += int64(len(shape))
		}
		return int(max(0, min(a, int64(len(shape)))))
	}
	from, to := clamp(b.integer("start", 0)), clamp(b.integer("end", int64(len(shape))))
	dims := toInt64s(shape[from:max(from, to)])
	return fixed{intValue(dims, len(dims))}, nil
}

// reshapedTo is a kernel that gives the first input another shape.
func (b *binder) reshapedTo(shape []int) kernel { return view{spec{b.in[0].dtype, shape}} }

func bindFlatten(b *binder) (kernel, error) {
	shape := b.in[0].shape
	at := b.integer("axis", 1)
	if at < 0 {
		at += int64(len(shape))
	}
	if at < 0 || at > int64(len(shape)) {
		return nil, fmt.Errorf("axis %d is out of range for rank %d", at, len(shape))
	}
	return b.reshapedTo([]int{size(shape[:at]), size(shape[at:])}), nil
}

func bindReshape(b *binder) (kernel, error) {
	target, err := b.int64s(1)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	literal := b.integer("allowzero", 0) != 0
	shape := make([]int64, len(target))
	open := -1
	for i, d := range target {
		switch {
		case d == 0 && !literal && i < len(x):
			shape[i] = int64(x[i])
		case d == -1 && open < 0:
			open, shape[i] = i, 1
		case d > 0 || d == 0 && literal:
			shape[i] = d
		default:
			return nil, fmt.Errorf("shape %v does not fit %v", target, x)
		}
	}
	n, err := checkedSize(shape)
	if err != nil {
		return nil, err
	}
	if open >= 0 && n > 0 {
		shape[open] = int64(size(x) / n)
		n *= size(x) / n
	}
	if n != size(x) || open >= 0 && n == 0 {
		return nil, fmt.Errorf("shape %v does not fit %v", target, x)
	}
	return b.reshapedTo(toInts(shape)), nil
}

// axes returns the axes of Squeeze and Unsqueeze, an attribute before version 13
// and an input since, counted from the start and sorted. rank is that of the
// result for n axes. Not given says that the node has none.
func (b *binder) axes(rank func(n int) int) (axes []int, given bool, err error) {
	list, given, err := b.intsOr("axes", 1)
	if err != nil {
		return nil, given, err
	}
	for _, a := range list {
		at, err := axis(a, rank(len(list)))
		if err != nil {
			return nil, given, err
		}
		axes = append(axes, at)
	}
	slices.Sort(axes)
	if len(slices.Compact(slices.Clone(axes))) < len(list) {
		return nil, given, fmt.Errorf("axes %v are not unique", list)
	}
	return axes, given, nil
}

func checkAxes(n *node) error {
	if n.opset >= 13 && n.attributes["axes"] != nil || n.opset < 13 && len(n.in) > 1 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	if n.op == "Unsqueeze" && n.attributes["axes"] == nil && (len(n.in) < 2 || n.in[1] < 0) {
		return errors.New("it has no axes")
	}
	return nil
}

func bindSqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, given, err := b.axes(func(int) int { return len(x) })
	if err != nil {
		return nil, err
	}
	shape := []int{}
	for i, d := range x {
		switch chosen := slices.Contains(axes, i); {
		case chosen && d != 1:
			return nil, fmt.Errorf("axis %d of shape %v is not 1", i, x)
		case !chosen && (given || d != 1):
			shape = append(shape, d)
		}
	}
	return b.reshapedTo(shape), nil
}

func bindUnsqueeze(b *binder) (kernel, error) {
	x := b.in[0].shape
	axes, _, err := b.axes(func(n int) int { return len(x) + n })
	if err != nil {
		return nil, err
	}
	shape := slices.Clone(x)
	for _, at := range axes {
		shape = slices.Insert(shape, at, 1)
	}
	return b.reshapedTo(shape), nil
}

// bindIdentity is for what the lowering leaves.
func bindIdentity(b *binder) (kernel, error) { return b.reshapedTo(b.in[0].shape), nil }

func bindSize(b *binder) (kernel, error) {
	return fixed{intValue([]int64{int64(size(b.in[0].shape))})}, nil
}

// bindDropout does nothing, as outside training; its mask says that all is kept.
func bindDropout(b *binder) (kernel, error) {
	if b.opset >= 12 && b.attributes["ratio"] != nil || b.opset < 12 && (len(b.in) > 1 || b.attributes["seed"] != nil) {
		return nil, fmt.Errorf("this form is not part of operator set %d", b.opset)
	}
	if b.has(2) {
		if training, err := b.known(2); err != nil || slices.Contains(training.bools(), true) {
			return nil, errors.New("training mode is lacking")
		}
	}
	x := b.in[0]
	if len(b.out) < 2 || b.out[1] < 0 {
		return b.reshapedTo(x.shape), nil
	}
	if b.opset < 12 { // which leaves it open
		return nil, fmt.Errorf("the mask of operator set %d is lacking", b.opset)
	}
	storage, _ := storageFor(x.dtype)
	return &several{[]spec{{x.dtype, x.shape}, {boolType, x.shape}}, func(r *run, in, out []*value) error {
		storage.copy(out[0].data, in[0].data)
		if out[1] != nil {
			mask := out[1].bools()
			for i := range mask {
				mask[i] = true
			}
		}
		return nil
	}}, nil
}

func bindConcat(b *binder) (kernel, error) {
	first := b.in[0].shape
	if b.attributes["axis"] == nil {
		return nil, errors.New("it has no axis")
	}
	at, err := axis(b.integer("axis", 0), len(first))
	if err != nil {
		return nil, err
	}
	if err := b.sameTypes(0); err != nil {
		return nil, err
	}
	shape := slices.Clone(first)
	shape[at] = 0
	after := make([]int, len(b.in))
	for i, o := range b.in {
		if len(o.shape) != len(first) || !slices.Equal(o.shape[:at], first[:at]) || !slices.Equal(o.shape[at+1:], first[at+1:]) {
			return nil, fmt.Errorf("shapes %v and %v cannot be joined at axis %d", first, o.shape, at)
		}
		if shape[at] += o.shape[at]; shape[at] > maxElements {
			return nil, fmt.Errorf("the inputs have more than %d places along axis %d", maxElements, at)
		}
		after[i] = size(o.shape[at:])
	}
	if len(b.in) == 1 {
		return b.reshapedTo(first), nil
	}
	s := spec{b.in[0].dtype, shape}
	return moved(s, joined[uint8](after), joined[uint16](after), joined[uint32](after), joined[uint64](after)), nil
}

func joined[T bits](after []int) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		srcs := make([][]T, len(in))
		for i, v := range in {
			srcs[i] = asBits[T](v)
		}
		compute.Concat(r.workers, asBits[T](out), srcs, after)
		return nil
	}
}

// strided is a kernel of the first input's elements, each a step away from the
// one before it along each dimension of the result.
func (b *binder) strided(shape []int, offset int, steps []int) kernel {
	s := spec{b.in[0].dtype, shape}
	return moved(s, stride[uint8](shape, offset, steps), stride[uint16](shape, offset, steps), stride[uint32](shape, offset, steps), stride[uint64](shape, offset, steps))
}

func stride[T bits](shape []int, offset int, steps []int) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		compute.Strided(r.workers, asBits[T](out), asBits[T](in[0]), shape, offset, steps)
		return nil
	}
}

// rowMajor returns by how many elements one moves along each dimension.
func rowMajor(shape []int) []int {
	steps := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		steps[i] = n
		n *= shape[i]
	}
	return steps
}

// transposed is a kernel that gives the first input, seen under shape x, its axes
// in another order, and its result the given shape.
func (b *binder) transposed(x, perm, shape []int) kernel {
	from := rowMajor(x)
	steps, dims := make([]int, len(perm)), make([]int, len(perm))
	inOrder := -1
	still := true
	for i, p := range perm {
		steps[i], dims[i] = from[p], x[p]
		if x[p] != 1 {
			still = still && p > inOrder
			inOrder = p
		}
	}
	if still {
		return b.reshapedTo(shape)
	}
	k := b.strided(dims, 0, steps).(*each)
	k.shape = shape
	return k
}

func bindTranspose(b *binder) (kernel, error) {
	x := b.in[0].shape
	perm := make([]int, len(x))
	for i := range perm {
		perm[i] = len(x) - 1 - i
	}
	if p := b.attributes["perm"]; p != nil {
		var err error
		if perm, err = b.ints("perm", len(x), 0); err != nil {
			return nil, err
		}
	}
	shape := make([]int, len(x))
	seen := make([]bool, len(x))
	for i, p := range perm {
		if p >= len(x) || seen[p] {
			return nil, fmt.Errorf("perm %v is no permutation", perm)
		}
		seen[p] = true
		shape[i] = x[p]
	}
	return b.transposed(x, perm, shape), nil
}

func bindDepthToSpace(b *binder) (kernel, error) {
	x := b.in[0].shape
	k := b.integer("blocksize", 0)
	if len(x) != 4 || k < 1 || k > 1<<15 || x[1]%int(k*k) != 0 {
		return nil, fmt.Errorf("shape %v does not fall into blocks of %d", x, k)
	}
	n := int(k)
	c := x[1] / (n * n)
	shape := []int{x[0], c, x[2] * n, x[3] * n}
	switch mode := b.text("mode"); mode {
	case "", "DCR":
		return b.transposed([]int{x[0], n, n, c, x[2], x[3]}, []int{0, 3, 4, 1, 5, 2}, shape), nil
	case "CRD":
		return b.transposed([]int{x[0], c, n, n, x[2], x[3]}, []int{0, 1, 4, 2, 5, 3}, shape), nil
	default:
		return nil, fmt.Errorf("mode %q is lacking", mode)
	}
}

func bindSpaceToDepth(b *binder) (kernel, error) {
	x := b.in[0].shape
	k := b.integer("blocksize", 0)
	if len(x) != 4 || k < 1 || k > 1<<15 || x[2]%int(k) != 0 || x[3]%int(k) != 0 {
		return nil, fmt.Errorf("shape %v does not fall into blocks of %d", x, k)
	}
	n := int(k)
	shape := []int{x[0], x[1] * n * n, x[2] / n, x[3] / n}
	blocks := []int{x[0], x[1], x[2] / n, n, x[3] / n, n}
	switch mode := b.text("mode"); {
	case mode != "" && b.opset < 28:
		return nil, fmt.Errorf("mode is not part of operator set %d", b.opset)
	case mode == "" || mode == "DCR":
		return b.transposed(blocks, []int{0, 3, 5, 1, 2, 4}, shape), nil
	case mode == "CRD":
		return b.transposed(blocks, []int{0, 1, 3, 5, 2, 4}, shape), nil
	default:
		return nil, fmt.Errorf("mode %q is lacking", mode)
	}
}

// checkSplit knows where the parts' lengths stand.
func checkSplit(n *node) error {
	if n.opset < 13 && len(n.in) > 1 || n.opset >= 13 && n.attributes["split"] != nil || n.opset < 18 && n.attributes["num_outputs"] != nil {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

func bindSplit(b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", 0), len(x))
	if err != nil {
		return nil, err
	}
	lengths, given, err := b.intsOr("split", 1)
	if err != nil {
		return nil, err
	}
	if !given {
		n := b.integer("num_outputs", int64(len(b.out)))
		if n != int64(len(b.out)) || b.opset < 18 && x[at]%len(b.out) != 0 {
			return nil, fmt.Errorf("%d places do not fall into %d parts for %d outputs", x[at], n, len(b.out))
		}
		each := (x[at] + len(b.out) - 1) / len(b.out)
		left := x[at]
		for range b.out {
			lengths = append(lengths, int64(min(each, left)))
			left -= min(each, left)
		}
	}
	if len(lengths) != len(b.out) {
		return nil, fmt.Errorf("%d parts for %d outputs", len(lengths), len(b.out))
	}
	sum := int64(0)
	parts := make([]kernel, len(lengths))
	k := &several{specs: make([]spec, len(lengths))}
	steps := rowMajor(x)
	for i, n := range lengths {
		if n < 0 || n > int64(x[at])-sum {
			return nil, fmt.Errorf("parts of %v places do not fit in %d", lengths, x[at])
		}
		shape := slices.Clone(x)
		shape[at] = int(n)
		k.specs[i] = spec{b.in[0].dtype, shape}
		parts[i] = b.strided(shape, int(sum)*steps[at], steps)
		sum += n
	}
	if sum != int64(x[at]) {
		return nil, fmt.Errorf("parts of %v places do not make %d", lengths, x[at])
	}
	k.f = func(r *run, in, out []*value) error {
		for i, p := range parts {
			if i < len(out) && out[i] != nil && size(out[i].shape) > 0 {
				if err := p.run(r, in, out[i:i+1]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return k, nil
}

// checkSlice knows that bounds are attributes before version 10.
func checkSlice(n *node) error {
	if n.opset < 10 && len(n.in) > 1 || n.opset >= 10 && len(n.attributes) > 0 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	if n.opset >= 10 && len(n.in) < 3 || n.opset < 10 && (n.attributes["starts"] == nil || n.attributes["ends"] == nil) {
		return errors.New("it has no starts or no ends")
	}
	return nil
}

func bindSlice(b *binder) (kernel, error) {
	x := b.in[0].shape
	var lists [4][]int64 // starts, ends, axes, steps
	for i, name := range []string{"starts", "ends", "axes", "steps"} {
		var err error
		if lists[i], _, err = b.intsOr(name, i+1); err != nil {
			return nil, err
		}
	}
	starts, ends, axes, steps := lists[0], lists[1], lists[2], lists[3]
	if axes == nil {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	if len(ends) != len(starts) || len(axes) != len(starts) || len(steps) != len(starts) {
		return nil, fmt.Errorf("%d starts, %d ends, %d axes and %d steps do not fit", len(starts), len(ends), len(axes), len(steps))
	}
	shape, along, offset := slices.Clone(x), rowMajor(x), 0
	seen := make([]bool, len(x))
	for i, a := range axes {
		at, err := axis(a, len(x))
		if err != nil {
			return nil, err
		}
		if seen[at] || steps[i] == 0 {
			return nil, fmt.Errorf("axis %d is cut twice, or by step 0", at)
		}
		seen[at] = true
		n, step := int64(x[at]), steps[i]
		// A step that leads out of the dimension does so in either case.
		step = max(-n-1, min(step, n+1))
		bound := func(v, least, most int64) int64 {
			if v < 0 {
				v = max(v, -n-1) + n
			}
			return max(least, min(v, most))
		}
		var from, count int64
		if step > 0 {
			from = bound(starts[i], 0, n)
			count = (bound(ends[i], 0, n) - from + step - 1) / step
		} else {
			from = bound(starts[i], -1, n-1)
			count = (bound(ends[i], -1, n-1) - from + step + 1) / step
		}
		shape[at] = int(max(0, count))
		offset += int(from) * along[at]
		along[at] *= int(step)
	}
	if slices.Equal(shape, x) && offset == 0 {
		return b.reshapedTo(x), nil
	}
	return b.strided(shape, offset, along), nil
}

// knownShape returns the numbers of input i, which are lengths or counts.
func (b *binder) knownShape(i int) ([]int, error) {
	list, err := b.int64s(i)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if d < 0 || d > maxElements {
			return nil, fmt.Errorf("input %d holds %d", i, d)
		}
	}
	return toInts(list), nil
}

func bindExpand(b *binder) (kernel, error) {
	to, err := b.knownShape(1)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	shape, err := compute.BroadcastShape(x, to)
	if err != nil {
		return nil, err
	}
	if slices.Equal(shape, x) {
		return b.reshapedTo(x), nil
	}
	steps := make([]int, len(shape))
	for i, s := range rowMajor(x) {
		if x[i] != 1 {
			steps[len(shape)-len(x)+i] = s
		}
	}
	return b.strided(shape, 0, steps), nil
}

func bindTile(b *binder) (kernel, error) {
	repeats, err := b.knownShape(1)
	if err != nil {
		return nil, err
	}
	x := b.in[0].shape
	if len(repeats) != len(x) {
		return nil, fmt.Errorf("%d repeats for rank %d", len(repeats), len(x))
	}
	shape := make([]int, len(x))
	var dims, steps []int
	for i, s := range rowMajor(x) {
		if repeats[i] > 0 && x[i] > maxElements/repeats[i] {
			return nil, fmt.Errorf("%d times %d places are more than %d", repeats[i], x[i], maxElements)
		}
		shape[i] = x[i] * repeats[i]
		dims, steps = append(dims, repeats[i], x[i]), append(steps, 0, s)
	}
	k := b.strided(dims, 0, steps).(*each)
	k.shape = shape
	return k, nil
}

// taking is a kernel that takes places of the first input by index along each
// dimension; where an index is negative stands what fill returns.
func (b *binder) taking(index [][]int, fill func(in []*value) *value) kernel {
	shape := make([]int, len(index))
	for i, x := range index {
		shape[i] = len(x)
	}
	s := spec{b.in[0].dtype, shape}
	x := b.in[0].shape
	return moved(s, taken[uint8](x, index, fill), taken[uint16](x, index, fill), taken[uint32](x, index, fill), taken[uint64](x, index, fill))
}

func taken[T bits](shape []int, index [][]int, fill func(in []*value) *value) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		var with T
		if v := fill(in); v != nil {
			with = asBits[T](v)[0]
		}
		compute.Take(r.workers, asBits[T](out), asBits[T](in[0]), shape, index, with)
		return nil
	}
}

// checkPad knows that pads are an attribute before version 11.
func checkPad(n *node) error {
	old := n.attributes["pads"] != nil || n.attributes["value"] != nil
	if n.opset < 11 && len(n.in) > 1 || n.opset >= 11 && (old || len(n.in) < 2) || n.opset < 18 && len(n.in) > 3 {
		return fmt.Errorf("this form is not part of operator set %d", n.opset)
	}
	return nil
}

func bindPad(b *binder) (kernel, error) {
	x := b.in[0]
	pads, _, err := b.intsOr("pads", 1)
	if err != nil {
		return nil, err
	}
	axes, err := b.int64s(3)
	if err != nil {
		return nil, err
	}
	if !b.has(3) {
		for i := range x.shape {
			axes = append(axes, int64(i))
		}
	}
	if len(pads) != 2*len(axes) {
		return nil, fmt.Errorf("%d pads for %d axes", len(pads), len(axes))
	}
	if b.has(2) && (b.in[2].dtype != x.dtype || size(b.in[2].shape) != 1) {
		return nil, fmt.Errorf("input 2 is %s of shape %v in place of one %s", b.in[2].dtype, b.in[2].shape, x.dtype)
	}
	modes := map[string]compute.PadMode{"": compute.PadConstant, "constant": compute.PadConstant, "reflect": compute.PadReflect, "edge": compute.PadEdge, "wrap": compute.PadWrap}
	mode, ok := modes[b.text("mode")]
	if !ok || mode == compute.PadWrap && b.opset < 19 {
		return nil, fmt.Errorf("mode %q is lacking", b.text("mode"))
	}
	begin, end := make([]int64, len(x.shape)), make([]int64, len(x.shape))
	seen := make([]bool, len(x.shape))
	for i, a := range axes {
		at, err := axis(a, len(x.shape))
		if err != nil {
			return nil, err
		}
		if seen[at] {
			return nil, fmt.Errorf("axis %d is padded twice", at)
		}
		seen[at] = true
		begin[at], end[at] = pads[i], pads[i+len(axes)]
	}
	index := make([][]int, len(x.shape))
	shape := make([]int64, len(x.shape))
	for i, n := range x.shape {
		for _, p := range []int64{begin[i], end[i]} {
			if p > maxElements || p < -maxElements {
				return nil, fmt.Errorf("%d places of padding", p)
			}
			if p > 0 && mode != compute.PadConstant && n == 0 || mode == compute.PadReflect && p > 0 && p >= int64(n) {
				return nil, fmt.Errorf("%d places of padding by %s are more than %d places give", p, b.text("mode"), n)
			}
		}
		shape[i] = max(0, int64(n)+begin[i]+end[i])
		if mode == compute.PadWrap && min(begin[i], end[i]) < 0 && max(begin[i], end[i]) > 0 {
			// Versions of ONNX Runtime differ in what is repeated.
			return nil, errors.New("padding by wrap at one end and cutting at the other is lacking")
		}
		if mode != compute.PadConstant && shape[i] > 0 && int64(n)+min(0, begin[i])+min(0, end[i]) < 1 {
			return nil, fmt.Errorf("padding by %s of nothing that is left of %d places", b.text("mode"), n)
		}
	}
	if _, err := checkedSize(shape); err != nil {
		return nil, err
	}
	if size(toInts(shape)) == 0 {
		return fixed{newValue(spec{x.dtype, toInts(shape)})}, nil
	}
	same := true
	for i, n := range x.shape {
		same = same && begin[i] == 0 && end[i] == 0
		index[i] = mode.Index(n, int(begin[i]), int(end[i]))
	}
	if same {
		return b.reshapedTo(x.shape), nil
	}
	var constant *value
	if p := b.attributes["value"]; p != nil {
		if constant, err = scalar(x.dtype, float64(p.GetF())); err != nil {
			return nil, err
		}
	}
	return b.taking(index, func(in []*value) *value {
		if len(in) > 2 && in[2] != nil {
			return in[2]
		}
		return constant
	}), nil
}

// placesIn checks indices, which may be counted from the end, against a length.
func placesIn(v *value, n int) ([]int, error) {
	list := indices64(v)
	places := make([]int, len(list))
	for i, k := range list {
		at, err := axis(k, n)
		if err != nil {
			return nil, fmt.Errorf("index %d is out of range for %d places", k, n)
		}
		places[i] = at
	}
	return places, nil
}

func bindGather(b *binder) (kernel, error) {
	x := b.in[0].shape
	at, err := axis(b.integer("axis", 0), len(x))
	if err != nil {
		return nil, err
	}
	shape := slices.Concat(x[:at], b.in[1].shape, x[at+1:])
	n, inner := x[at], size(x[at+1:])
	s := spec{b.in[0].dtype, shape}
	return moved(s, gathered[uint8](n, inner), gathered[uint16](n, inner), gathered[uint32](n, inner), gathered[uint64](n, inner)), nil
}

func gathered[T bits](n, inner int) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		places, err := placesIn(in[1], n)
		if err != nil {
			return err
		}
		compute.Gather(r.workers, asBits[T](out), asBits[T](in[0]), n, inner, places)
		return nil
	}
}

func bindGatherElements(b *binder) (kernel, error) {
	x, index := b.in[0].shape, b.in[1].shape
	at, err := axis(b.integer("axis", 0), len(x))
	if err != nil {
		return nil, err
	}
	if len(index) != len(x) {
		return nil, fmt.Errorf("indices of shape %v do not fit %v", index, x)
	}
	for i, n := range index {
		if i != at && n > x[i] {
			return nil, fmt.Errorf("indices of shape %v do not fit %v", index, x)
		}
	}
	s := spec{b.in[0].dtype, index}
	return moved(s, gatheredElements[uint8](x, index, at), gatheredElements[uint16](x, index, at), gatheredElements[uint32](x, index, at), gatheredElements[uint64](x, index, at)), nil
}

func gatheredElements[T bits](shape, index []int, at int) func(r *run, in []*value, out *value) error {
	steps := rowMajor(shape)
	return func(r *run, in []*value, out *value) error {
		places, err := placesIn(in[1], shape[at])
		if err != nil {
			return err
		}
		src, dst := asBits[T](in[0]), asBits[T](out)
		for i, p := range places {
			from := p * steps[at]
			for d, rest := len(index)-1, i; d >= 0; d-- {
				if d != at {
					from += rest % index[d] * steps[d]
				}
				rest /= index[d]
			}
			dst[i] = src[from]
		}
		return nil
	}
}

func bindGatherND(b *binder) (kernel, error) {
	x, index := b.in[0].shape, b.in[1].shape
	batch := int(max(-1, min(b.integer("batch_dims", 0), 1<<10)))
	if len(index) == 0 || batch < 0 || batch >= len(index) || batch > len(x) {
		return nil, fmt.Errorf("indices of shape %v with %d batch dimensions do not fit %v", index, batch, x)
	}
	depth := index[len(index)-1]
	if depth < 1 || depth > len(x)-batch || !slices.Equal(index[:batch], x[:batch]) {
		return nil, fmt.Errorf("indices of shape %v with %d batch dimensions do not fit %v", index, batch, x)
	}
	shape := slices.Concat(index[:len(index)-1], x[batch+depth:])
	s := spec{b.in[0].dtype, shape}
	return moved(s, gatheredND[uint8](x, index, batch), gatheredND[uint16](x, index, batch), gatheredND[uint32](x, index, batch), gatheredND[uint64](x, index, batch)), nil
}

func gatheredND[T bits](x, index []int, batch int) func(r *run, in []*value, out *value) error {
	depth := index[len(index)-1]
	inner, steps := size(x[batch+depth:]), rowMajor(x)
	perBatch := size(index[batch : len(index)-1])
	return func(r *run, in []*value, out *value) error {
		list, src, dst := indices64(in[1]), asBits[T](in[0]), asBits[T](out)
		for i := range len(list) / depth {
			from := i / perBatch * size(x[batch:])
			for d, k := range list[i*depth : (i+1)*depth] {
				at, err := axis(k, x[batch+d])
				if err != nil {
					return fmt.Errorf("index %d is out of range for %d places", k, x[batch+d])
				}
				from += at * steps[batch+d]
			}
			copy(dst[i*inner:(i+1)*inner], src[from:])
		}
		return nil
	}
}

// bindTrilu keeps the upper or lower triangle of matrices.
func bindTrilu(b *binder) (kernel, error) {
	x := b.in[0].shape
	if len(x) < 2 {
		return nil, fmt.Errorf("rank %d is lacking", len(x))
	}
	move := int64(0)
	if b.has(1) {
		list, err := b.int64s(1)
		if err != nil {
			return nil, err
		}
		if len(list) != 1 {
			return nil, fmt.Errorf("%d numbers are given for the diagonal", len(list))
		}
		move = list[0]
	}
	upper := b.integer("upper", 1) != 0
	rows, cols := x[len(x)-2], x[len(x)-1]
	keep := func(i int) bool {
		past := int64(i%cols) - int64(i/cols%rows) - move
		return past == 0 || past > 0 == upper
	}
	s := spec{b.in[0].dtype, x}
	return moved(s, triangle[uint8](keep), triangle[uint16](keep), triangle[uint32](keep), triangle[uint64](keep)), nil
}

func triangle[T bits](keep func(i int) bool) func(r *run, in []*value, out *value) error {
	return func(r *run, in []*value, out *value) error {
		dst := asBits[T](out)
		for i, v := range asBits[T](in[0]) {
			if dst[i] = 0; keep(i) {
				dst[i] = v
			}
		}
		return nil
	}
}
