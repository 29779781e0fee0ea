package onnxfile

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"os"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// An Extent is where the numbers of one tensor are stored.
type Extent struct {
	Tensor Tensor
	// File is the location of external data, "" for the model's own file.
	// Several spellings of one file's location become the first one of them.
	File string
	// Offset and Length are in bytes, as the model claims: they may lie beyond
	// the end of the file. Offset is -1 for numbers among the model's own bytes
	// that are too few to have been left there.
	Offset, Length int64
	// Err, a *TensorError, says why an external tensor's range is not known;
	// Offset and Length are 0 then.
	Err error
}

// A DataFile is a file of external data.
type DataFile struct {
	// Location is as in the model.
	Location string
	// Size is the file's size in bytes, 0 when Err says why it cannot be read.
	Size int64
	Err  error
}

// A Layout tells where the numbers of all tensors lie.
type Layout struct {
	// Extents has the tensors that hold numbers in the order of the file, in
	// nested graphs, functions and training graphs too; one tensor may have
	// several when it stores its numbers twice.
	Extents []Extent
	// Data has the files of external data in the order of first use.
	Data []DataFile
}

// Layout looks at the files of external data, without reading them, and
// returns where every tensor lies. It fails only when ctx ends.
func (f *File) Layout(ctx context.Context) (*Layout, error) {
	l := &layouter{f: f, files: map[string]string{}, bySize: map[int64][]knownFile{}}
	var err error
	eachTensor(f.Model, func(p *onnxpb.TensorProto) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			l.add(f.Tensor(p))
		}
	})
	if err != nil {
		return nil, err
	}
	return &l.Layout, nil
}

type layouter struct {
	Layout
	f     *File
	files map[string]string // the first spelling of each location
	// Files of one size are the only ones that can be the same file.
	bySize map[int64][]knownFile
}

type knownFile struct {
	location string
	info     os.FileInfo
}

func (l *layouter) add(t Tensor) {
	if isExternal(t.p) {
		e, err := t.external()
		x := Extent{Tensor: t, Err: err}
		if e.location != "" {
			x.File = l.file(e.location)
		}
		if err == nil {
			x.Offset, x.Length = e.offset, e.length
		}
		l.Extents = append(l.Extents, x)
		return
	}
	for _, p := range t.p.FilterlensPayload {
		l.Extents = append(l.Extents, Extent{Tensor: t, Offset: p.GetOffset(), Length: p.GetLength()})
	}
	if n := t.inlineBytes(); n > 0 {
		l.Extents = append(l.Extents, Extent{Tensor: t, Offset: -1, Length: n})
	}
}

// file returns the first spelling of a location.
func (l *layouter) file(location string) string {
	if first, ok := l.files[location]; ok {
		return first
	}
	info, err := l.f.folders.stat(location)
	d := DataFile{Location: location, Err: err}
	first := location
	if err == nil {
		d.Size = info.Size()
		for _, k := range l.bySize[d.Size] {
			if os.SameFile(k.info, info) {
				first = k.location
				break
			}
		}
		if first == location {
			l.bySize[d.Size] = append(l.bySize[d.Size], knownFile{location, info})
		}
	}
	l.files[location] = first
	if first == location {
		l.Data = append(l.Data, d)
	}
	return first
}

// Hash returns the SHA-256 of the tensor's data in raw form (little-endian,
// row-major, padding bits as stored), whichever way it is stored; of strings,
// that of each one's length in 8 bytes and its bytes. Type and dimensions are
// not part of it. It fails as Values does, for types of unknown width only with
// ErrUnsupportedType, and when ctx ends.
func (t Tensor) Hash(ctx context.Context) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if t.DType() == DType(onnxpb.TensorProto_STRING) {
		hashStrings(h, t.p.StringData)
		return [sha256.Size]byte(h.Sum(nil)), nil
	}
	r, err := t.raw()
	if err != nil {
		return sum, err
	}
	defer r.close()
	buf := make([]byte, min(r.total, 1<<18))
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		b, err := r.fill(buf)
		if err != nil {
			return sum, err
		}
		if len(b) == 0 {
			return [sha256.Size]byte(h.Sum(nil)), nil
		}
		h.Write(b)
	}
}

func hashStrings(h hash.Hash, list [][]byte) {
	for _, s := range list {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write(s)
	}
}
