package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

const (
	// besideLeast is the least number of bytes of a tensor that is worth a place in
	// a file of external data.
	besideLeast = 1 << 10
	// besideAlign is what offsets are multiples of, so that a runtime can map the
	// numbers into memory instead of copying them.
	besideAlign = 4 << 10
)

// PutBeside takes the numbers of the main graph's initializers out of the draft,
// those of less than 1 KiB excepted, to a file of external data that is to lie in the
// model's folder under the name given, and returns what that file holds. External
// data of the source goes there too. So a model of more than 2 GB becomes two files:
// the draft and, to be written before anything reads it, the data. Numbers are copied
// when the data is written, a block at a time.
func (d *Draft) PutBeside(name string) (Content, error) {
	if name == "" || name != baseName(name) {
		return nil, fmt.Errorf("external data cannot be called %q: a name without folders is expected", name)
	}
	b := &besideContent{}
	for _, t := range d.Model.Graph.GetInitializer() {
		c, err := d.raw(t)
		if errors.Is(err, ErrUnsupportedType) {
			continue // strings stay
		}
		if err != nil {
			return nil, err
		}
		if c == nil || c.Len() < besideLeast {
			continue
		}
		offset := (b.n + besideAlign - 1) / besideAlign * besideAlign
		b.parts = append(b.parts, besidePart{offset, c})
		b.n = offset + c.Len()
		d.SetRaw(t, c)
		t.FilterlensPayload = nil
		t.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
		entry := func(k, v string) *onnxpb.StringStringEntryProto {
			return &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(v)}
		}
		t.ExternalData = []*onnxpb.StringStringEntryProto{entry("location", name),
			entry("offset", strconv.FormatInt(offset, 10)), entry("length", strconv.FormatInt(c.Len(), 10))}
	}
	return b, nil
}

// raw returns the data of a tensor of the draft in raw form, nil where a few numbers
// are part of the skeleton.
func (d *Draft) raw(t *onnxpb.TensorProto) (Content, error) {
	if len(t.FilterlensPayload) == 0 && !isExternal(t) {
		return nil, nil
	}
	for _, p := range t.FilterlensPayload {
		if p.GetReplacement() != 0 {
			return d.payload(p)
		}
	}
	if d.src == nil {
		return nil, &TensorError{File: "draft", Tensor: t.GetName(), Err: errors.New("its data has no source file")}
	}
	return d.src.Tensor(proto.Clone(t).(*onnxpb.TensorProto)).Raw(nil)
}

// Relocate makes tensors whose data lies in the file of external data called from
// expect it in one called to.
func (d *Draft) Relocate(from, to string) {
	eachTensor(d.Model, func(t *onnxpb.TensorProto) {
		for _, kv := range t.ExternalData {
			if kv.GetKey() == "location" && kv.GetValue() == from {
				kv.Value = proto.String(to)
			}
		}
	})
}

func baseName(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' || s[i] == '\\' {
			return s[i+1:]
		}
	}
	if s == "." || s == ".." {
		return ""
	}
	return s
}

// besideContent is a file of external data.
type besideContent struct {
	parts []besidePart
	n     int64
}

type besidePart struct {
	offset int64
	c      Content
}

func (b *besideContent) Len() int64 { return b.n }

func (b *besideContent) WriteTo(w io.Writer) (int64, error) {
	var zeros [besideAlign]byte
	var done int64
	for _, p := range b.parts {
		n, err := w.Write(zeros[:p.offset-done])
		done += int64(n)
		if err != nil {
			return done, err
		}
		m, err := p.c.WriteTo(w)
		done += m
		if err == nil && m != p.c.Len() {
			err = fmt.Errorf("wrote %d of %d bytes of a tensor", m, p.c.Len())
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
