package onnxfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// maxMessage is the largest message that protobuf implementations read.
const maxMessage = 1<<31 - 1

// ErrTooLarge says that a model does not fit in one protobuf message.
var ErrTooLarge = errors.New("the model exceeds the 2 GB that one ONNX file can hold")

// Content is the data of a tensor, written when the model is.
type Content interface {
	// Len is the number of bytes that WriteTo writes each time.
	Len() int64
	io.WriterTo
}

// A Draft is a model on its way to a file: a skeleton of its own, with payloads
// that still lie in the file it came from, or in Contents that replace them.
type Draft struct {
	// Model may be changed freely. A tensor takes its payload along when it is
	// moved within the draft, but not into another one.
	Model    *onnxpb.ModelProto
	src      *File
	contents []Content
}

// Draft returns a copy of f's skeleton to change and write. f must stay open.
func (f *File) Draft() *Draft {
	return &Draft{Model: proto.Clone(f.Model).(*onnxpb.ModelProto), src: f}
}

// NewDraft returns a draft that begins with m and has no source file.
func NewDraft(m *onnxpb.ModelProto) *Draft { return &Draft{Model: m} }

// Initializer returns the main graph's initializer of that name, nil when there
// is none.
func (d *Draft) Initializer(name string) *onnxpb.TensorProto {
	for _, t := range d.Model.Graph.GetInitializer() {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// SetRaw replaces the data of t, wherever it was stored, by c in raw form:
// little-endian, row-major. Dimensions and type stay as they are.
func (d *Draft) SetRaw(t *onnxpb.TensorProto, c Content) {
	t.FloatData, t.Int32Data, t.Int64Data, t.DoubleData, t.Uint64Data, t.StringData = nil, nil, nil, nil, nil, nil
	t.RawData, t.ExternalData, t.DataLocation, t.Segment = nil, nil, nil, nil
	d.contents = append(d.contents, c)
	t.FilterlensPayload = []*onnxpb.Payload{{
		Field: proto.Int32(rawField), Length: proto.Int64(c.Len()), Replacement: proto.Int32(int32(len(d.contents))),
	}}
}

// SetFloat32 makes t a float tensor of the given dimensions over values, which
// are not copied.
func (d *Draft) SetFloat32(t *onnxpb.TensorProto, values []float32, dims ...int64) {
	t.Dims = dims
	t.DataType = proto.Int32(int32(Float))
	d.SetRaw(t, float32Content(values))
}

// SetInt64 makes t an int64 tensor of the given dimensions.
func (d *Draft) SetInt64(t *onnxpb.TensorProto, values []int64, dims ...int64) {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	t.Dims = dims
	t.DataType = proto.Int32(int32(Int64))
	d.SetRaw(t, BytesContent(b))
}

// BytesContent is Content that is in memory.
type BytesContent []byte

// Len returns the number of bytes.
func (b BytesContent) Len() int64 { return int64(len(b)) }

// WriteTo writes the bytes.
func (b BytesContent) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

type float32Content []float32

func (c float32Content) Len() int64 { return 4 * int64(len(c)) }

func (c float32Content) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, 0, windowBytes)
	var done int64
	for len(c) > 0 {
		k := min(len(c), windowBytes/4)
		buf = buf[:0]
		for _, v := range c[:k] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		n, err := w.Write(buf)
		done += int64(n)
		if err != nil {
			return done, err
		}
		c = c[k:]
	}
	return done, nil
}

// rangeContent is a payload that is copied as it lies.
type rangeContent struct {
	f      *File
	off, n int64
}

func (c rangeContent) Len() int64 { return c.n }

func (c rangeContent) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, min(c.n, copyBytes))
	var done int64
	for done < c.n {
		b := buf[:min(c.n-done, int64(len(buf)))]
		if err := readFull(c.f.r, b, c.off+done); err != nil {
			return done, fmt.Errorf("%s: %w", c.f.Name, err)
		}
		n, err := w.Write(b)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// copyBytes is how much of a payload is in memory at once.
const copyBytes = 1 << 20

// tensorContent is a tensor in raw form, optionally passed through edit.
type tensorContent struct {
	t    Tensor
	n    int64
	edit func(b []byte, off int64)
}

func (c tensorContent) Len() int64 { return c.n }

func (c tensorContent) WriteTo(w io.Writer) (int64, error) {
	r, err := c.t.raw()
	if err != nil {
		return 0, err
	}
	defer r.close()
	buf := make([]byte, min(c.n, copyBytes))
	var done int64
	for done < c.n {
		b, err := r.fill(buf)
		if err != nil {
			return done, err
		}
		if c.edit != nil {
			c.edit(b, done)
		}
		n, err := w.Write(b)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Raw returns t's data in raw form, little-endian and row-major whichever way
// it is stored, as Content that is read when it is written. edit, if not nil,
// may change each block of bytes on the way; off is the block's distance from
// the tensor's first byte, always a multiple of 1 MiB. Strings and types of
// unknown width give ErrUnsupportedType.
func (t Tensor) Raw(edit func(b []byte, off int64)) (Content, error) {
	r, err := t.raw()
	if err != nil {
		return nil, err
	}
	r.close()
	return tensorContent{t, r.total, edit}, nil
}

// InlineExternal makes the draft self-contained: tensors that lie outside the
// file are spliced into it when it is written.
func (d *Draft) InlineExternal() error {
	var first error
	eachTensor(d.Model, func(t *onnxpb.TensorProto) {
		if first != nil || !isExternal(t) {
			return
		}
		if d.src == nil {
			first = &TensorError{File: "draft", Tensor: t.GetName(), Err: errors.New("external data without a source file")}
			return
		}
		c, err := d.src.Tensor(proto.Clone(t).(*onnxpb.TensorProto)).Raw(nil)
		if err != nil {
			first = err
			return
		}
		d.SetRaw(t, c)
	})
	return first
}

type segment struct {
	lit     []byte
	content Content
}

// expand turns the serialized skeleton b of kind k back into what a file holds:
// payload messages become the fields that they stand for, lengths follow.
func (d *Draft) expand(b []byte, k kind) (segs []segment, size int64, changed bool, err error) {
	flushed := 0
	lit := func(p []byte) {
		if len(p) > 0 {
			segs = append(segs, segment{lit: p})
			size += int64(len(p))
		}
	}
	for i := 0; i < len(b); {
		num, typ, n := protowire.ConsumeField(b[i:])
		if n < 0 {
			return nil, 0, false, wireError(n)
		}
		if typ == protowire.BytesType {
			_, _, tagLen := protowire.ConsumeTag(b[i:])
			body, _ := protowire.ConsumeBytes(b[i+tagLen:])
			switch c := k.child(num); {
			case k == kindTensor && num == payloadField:
				p := new(onnxpb.Payload)
				if err := proto.Unmarshal(body, p); err != nil {
					return nil, 0, false, err
				}
				lit(b[flushed:i])
				content, err := d.payload(p)
				if err != nil {
					return nil, 0, false, err
				}
				head := protowire.AppendTag(nil, protowire.Number(p.GetField()), protowire.BytesType)
				lit(protowire.AppendVarint(head, uint64(content.Len())))
				segs = append(segs, segment{content: content})
				size += content.Len()
				flushed, changed = i+n, true
			case c != kindOther:
				sub, subSize, subChanged, err := d.expand(body, c)
				if err != nil {
					return nil, 0, false, err
				}
				if subChanged {
					lit(b[flushed:i])
					lit(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(subSize)))
					segs = append(segs, sub...)
					size += subSize
					flushed, changed = i+n, true
				}
			}
		}
		i += n
	}
	lit(b[flushed:])
	return segs, size, changed, nil
}

func (d *Draft) payload(p *onnxpb.Payload) (Content, error) {
	if i := int(p.GetReplacement()); i != 0 {
		if i < 0 || i > len(d.contents) {
			return nil, errors.New("a tensor was moved here from another draft")
		}
		return d.contents[i-1], nil
	}
	if d.src == nil {
		return nil, errors.New("a payload without a source file")
	}
	return rangeContent{d.src, p.GetOffset(), p.GetLength()}, nil
}

func (d *Draft) plan() ([]segment, int64, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(d.Model)
	if err != nil {
		return nil, 0, err
	}
	segs, size, _, err := d.expand(b, kindModel)
	if err == nil && size > maxMessage {
		err = ErrTooLarge
	}
	return segs, size, err
}

// Size returns the number of bytes that WriteTo writes, with ErrTooLarge when they
// do not fit in one file; PutBeside makes two of it.
func (d *Draft) Size() (int64, error) {
	_, n, err := d.plan()
	return n, err
}

// WriteTo writes the model to w.
func (d *Draft) WriteTo(w io.Writer) (int64, error) {
	segs, _, err := d.plan()
	if err != nil {
		return 0, err
	}
	var done int64
	for _, s := range segs {
		var n int64
		var err error
		if s.content != nil {
			if n, err = s.content.WriteTo(w); err == nil && n != s.content.Len() {
				err = fmt.Errorf("wrote %d of %d bytes of a tensor", n, s.content.Len())
			}
		} else {
			var k int
			k, err = w.Write(s.lit)
			n = int64(k)
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Bytes returns the serialized model.
func (d *Draft) Bytes() ([]byte, error) {
	n, err := d.Size()
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, n))
	_, err = d.WriteTo(buf)
	return buf.Bytes(), err
}
