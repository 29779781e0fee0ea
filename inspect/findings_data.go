package inspect

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	// paddingBytes is the smallest gap between the tensors of an external file
	// that is no padding: 64 KiB, the coarsest unit in which systems map files.
	paddingBytes = 64 << 10
	// duplicateBytes is the smallest tensor whose duplicates are told; below, it
	// is not worth anybody's time. Nor are lists of numbers, such as the biases of
	// two layers that are all zero.
	duplicateBytes = 4 << 10
)

// storage adds tensors whose bytes are not where they should be.
func (f *finder) storage(ctx context.Context) error {
	layout, err := f.m.Handle.Layout(ctx)
	if err != nil {
		return err
	}
	names := make(map[onnxfile.Tensor]storedTensor)
	for _, s := range f.m.storedTensors() {
		names[s.t] = s
	}
	where := func(t onnxfile.Tensor) place {
		if s, ok := names[t]; ok {
			return place{scope: s.scope, tensor: s.name}
		}
		return place{tensor: t.Name()}
	}
	external := make(map[onnxfile.Tensor]bool)
	byFile := make(map[string][]onnxfile.Extent)
	for _, x := range layout.Extents {
		p := where(x.Tensor)
		if x.Err != nil {
			external[x.Tensor] = true
			f.add("external-unreadable", p, "where the data of %q lies is not known: %v; export the model again", p.tensor, cause(x.Err))
			continue
		}
		if x.File == "" {
			continue
		}
		external[x.Tensor] = true
		byFile[x.File] = append(byFile[x.File], x)
		if n, err := x.Tensor.Elements(); err == nil && x.Tensor.DType().Bits() > 0 {
			if need := (n*x.Tensor.DType().Bits() + 7) / 8; need != x.Length {
				f.add("stored-size", p, "%q (%s) needs %d bytes and has %d in %q; export the model again", p.tensor, typeAndShape(x.Tensor), need, x.Length, x.File)
			}
		}
	}
	stored := f.m.Handle.StoredCheck()
	for _, s := range f.m.storedTensors() {
		if external[s.t] {
			continue
		}
		if err := storedFault(stored, s.t); err != nil {
			f.add("stored-size", place{scope: s.scope, tensor: s.name}, "the data of %q does not fit: %v; export the model again", s.name, cause(err))
		}
	}
	for _, d := range layout.Data {
		f.dataFile(d, byFile[d.Location], where)
	}
	return nil
}

// cause is what a TensorError is about, without the names that stand beside it.
func cause(err error) error {
	var e *onnxfile.TensorError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// dataFile adds what is wrong with a file of external data and with the ranges
// of it that tensors take.
func (f *finder) dataFile(d onnxfile.DataFile, extents []onnxfile.Extent, where func(onnxfile.Tensor) place) {
	if len(extents) == 0 {
		return
	}
	p := where(extents[0].Tensor)
	whose := fmt.Sprintf("tensor %q", p.tensor)
	if len(extents) > 1 {
		whose = fmt.Sprintf("%d tensors, the first is %q", len(extents), p.tensor)
	}
	switch {
	case !filepath.IsLocal(filepath.FromSlash(d.Location)) || errors.Is(d.Err, onnxfile.ErrOutside):
		f.add("external-outside", p, "external data %q lies outside the model's folder, where nothing is read (%s); move it beside the model and correct the location", d.Location, whose)
		return
	case errors.Is(d.Err, fs.ErrNotExist):
		hint := ""
		if strings.Contains(d.Location, `\`) {
			hint = ", and separate folders by / in its location"
		}
		f.add("external-missing", p, "external data %q is missing (%s); put it beside the model%s", d.Location, whose, hint)
		return
	case d.Err != nil:
		f.add("external-unreadable", p, "external data %q cannot be read (%s): %v", d.Location, whose, d.Err)
		return
	}
	extents = slices.Clone(extents)
	slices.SortStableFunc(extents, func(a, b onnxfile.Extent) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(b.Length, a.Length))
	})
	beyond, overlaps, orphans := 0, 0, int64(0)
	var outside, first, second onnxfile.Extent
	var gap, end int64
	last := onnxfile.Extent{} // the one that reaches furthest
	for _, x := range extents {
		if x.Offset > d.Size || x.Length > d.Size-x.Offset {
			if beyond++; beyond == 1 {
				outside = x
			}
			continue
		}
		if x.Length == 0 {
			continue
		}
		if x.Offset < end && !(x.Offset == last.Offset && x.Length == last.Length) {
			if overlaps++; overlaps == 1 {
				first, second = last, x
			}
		}
		if x.Offset-end >= paddingBytes {
			if orphans == 0 {
				gap = end
			}
			orphans += x.Offset - end
		}
		if x.Offset+x.Length > end {
			end, last = x.Offset+x.Length, x
		}
	}
	if d.Size-end >= paddingBytes {
		if orphans == 0 {
			gap = end
		}
		orphans += d.Size - end
	}
	if beyond > 0 {
		p := where(outside.Tensor)
		f.add("external-range", p, "%s beyond the end of %q, which has %d bytes; the first is %q with %d bytes at %d; fetch the file again",
			count(beyond, "tensor lies", "tensors lie"), d.Location, d.Size, p.tensor, outside.Length, outside.Offset)
	}
	if overlaps > 0 {
		p := where(second.Tensor)
		f.add("external-overlap", p, "%s bytes of %q with another in part; the first is %q at %d, inside %q (%d bytes at %d); write the model again",
			count(overlaps, "tensor shares", "tensors share"), d.Location, p.tensor, second.Offset, where(first.Tensor).tensor, first.Length, first.Offset)
	}
	if orphans > 0 && beyond == 0 {
		f.add("external-orphan", p, "%d of the %d bytes of %q belong to no tensor, the first of them at %d (gaps below 64 KiB count as padding); unless another model uses them, write the model again",
			orphans, d.Size, d.Location, gap)
	}
}

// weights adds what is odd about the stored numbers.
func (f *finder) weights(ctx context.Context) error {
	all := f.m.storedTensors()
	if err := f.duplicates(ctx, all); err != nil {
		return err
	}
	used := f.layerTensors()
	var tensors []onnxfile.Tensor
	var which []storedTensor
	for _, s := range all {
		if used[s.t] || s.t.DType().IsFloat() {
			tensors, which = append(tensors, s.t), append(which, s)
		}
	}
	readings, err := f.m.valuesOf(ctx, tensors)
	if err != nil {
		return err
	}
	zeros := make(map[onnxfile.Tensor]int64)
	stored := f.m.Handle.StoredCheck()
	for i, r := range readings {
		s := which[i]
		p := place{scope: s.scope, tensor: s.name}
		if r.err != nil {
			// What can be told without reading has been.
			if storedFault(stored, s.t) == nil {
				f.add("stored-size", p, "the data of %q cannot be read: %v; export the model again", s.name, cause(r.err))
			}
			continue
		}
		v := r.stats
		if v == nil {
			continue
		}
		zeros[s.t] = v.Zeros
		n, _ := s.t.Elements()
		if v.NaN > 0 && used[s.t] {
			f.add("nan-weights", p, "%d of the %d values of %q are NaN, and what is computed with them is no number either; train or export the model again", v.NaN, n, s.name)
		}
		if v.Inf > 0 && used[s.t] {
			f.add("inf-weights", p, "%d of the %d values of %q are infinite; train or export the model again", v.Inf, n, s.name)
		}
		if v.Subnormal > 0 && used[s.t] && s.t.DType().Bits() >= 16 && s.t.DType() != onnxfile.Float16 {
			f.add("subnormal-weights", p, "%d of the %d values of %q are too small for a normal %s, and many processors take far longer over such numbers; set them to zero or have the runtime flush them",
				v.Subnormal, n, s.name, s.t.DType())
		}
	}
	return f.zeroFilters(ctx, zeros)
}

// layerTensors returns the tensors that layers compute with.
func (f *finder) layerTensors() map[onnxfile.Tensor]bool {
	used := make(map[onnxfile.Tensor]bool)
	f.eachLayer(func(l *Layer, at foundLayer) error {
		for _, name := range at.node.Inputs[min(len(at.node.Inputs), 1):] {
			if s, ok := at.graph.Stored(name); ok {
				used[s.Tensor] = true
			}
		}
		for _, w := range []weight{at.weight, at.bias} {
			if s, ok := w.stored(f.m.Handle); ok {
				used[s.Tensor] = true
			}
		}
		return nil
	})
	return used
}

// eachLayer calls fn with the layers, those of a function once, until it fails.
func (f *finder) eachLayer(fn func(*Layer, foundLayer) error) error {
	seen := make(map[*onnxpb.NodeProto]bool, len(f.m.Layers))
	for i := range f.m.Layers {
		l := &f.m.Layers[i]
		at := f.m.layer(l)
		if at.node == nil || seen[at.node.Proto] {
			continue
		}
		seen[at.node.Proto] = true
		if err := fn(l, at); err != nil {
			return err
		}
	}
	return nil
}

// duplicates adds large initializers with the same type, shape and bytes. Only
// those are read that could be.
func (f *finder) duplicates(ctx context.Context, all []storedTensor) error {
	kinds := make(map[string][]int)
	for i, s := range all {
		if s.t.StoredBytes() >= duplicateBytes && len(s.t.Dims()) > 1 {
			kind := fmt.Sprint(s.t.DType(), s.t.Dims())
			kinds[kind] = append(kinds[kind], i)
		}
	}
	sums := make([][sha256.Size]byte, len(all))
	known := make([]bool, len(all))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, alike := range kinds {
		if len(alike) < 2 {
			continue
		}
		for _, i := range alike {
			group.Go(func() error {
				if err := inner.Err(); err != nil {
					return err
				}
				sum, err := all[i].t.Hash(inner)
				sums[i], known[i] = sum, err == nil
				return inner.Err() // what cannot be read is a finding of its own
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	type content struct {
		kind string
		sum  [sha256.Size]byte
	}
	same := make(map[content][]int)
	for i, s := range all {
		if known[i] {
			c := content{fmt.Sprint(s.t.DType(), s.t.Dims()), sums[i]}
			same[c] = append(same[c], i)
		}
	}
	for i, s := range all {
		if !known[i] {
			continue
		}
		others := same[content{fmt.Sprint(s.t.DType(), s.t.Dims()), sums[i]}]
		if len(others) < 2 || others[0] != i {
			continue
		}
		var names []string
		for _, j := range others[1:] {
			names = append(names, all[j].name)
		}
		second := all[others[1]]
		f.add("duplicate-initializer", place{scope: second.scope, tensor: second.name}, "%s the same type, shape and bytes as %q (%s, %d bytes): %s; use one for all",
			count(len(names), "tensor has", "tensors have"), s.name, typeAndShape(s.t), s.t.StoredBytes(), list(names))
	}
	return nil
}

// zeroFilters adds the layers that have filters without a weight. zeros has the
// number of zeros of each tensor.
func (f *finder) zeroFilters(ctx context.Context, zeros map[onnxfile.Tensor]int64) error {
	return f.eachLayer(func(l *Layer, at foundLayer) error {
		w, ok := at.graph.filters(at.node)
		if !ok || zeros[w.t] < w.size() {
			return nil
		}
		empty, err := w.zero(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || len(empty) == 0 {
			return nil // what cannot be read is a finding of its own
		}
		var b strings.Builder
		for i, k := range empty {
			if i == 12 {
				fmt.Fprintf(&b, " and %d more", len(empty)-i)
				break
			}
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprint(&b, k)
		}
		f.add("zero-filter", place{scope: l.Scope, node: at.node, tensor: l.Weight}, "%s has %d filters, and all weights of %s zero: %s; they can be cut out",
			described(at.node), w.n, count(len(empty), "of them are", "of them are"), b.String())
		return nil
	})
}
