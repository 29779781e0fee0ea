// Package onnxfile is the ONNX file itself: its skeleton in memory, its weights
// left where they lie, and the way back to disk.
//
// Open walks the protobuf wire format once and keeps everything but the large
// payloads of tensors, which become byte ranges; the official protobuf library
// then decodes a few kilobytes. A Draft is a changed skeleton; writing one
// splices untouched payloads straight from the source. What a graph means
// (operators, shapes, layers) does not enter here.
package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A File is an opened ONNX model. Its methods are safe for concurrent use as
// long as Model is not modified; to change a model, take a Draft.
type File struct {
	// Name is the path it was opened with, or what the reader was called.
	Name string
	// Size is the size of the file in bytes, external data not counted.
	Size int64
	// Model is the skeleton. Payloads above a few hundred bytes are missing
	// from its tensors; read them through Tensor.
	Model *onnxpb.ModelProto

	r    io.ReaderAt
	c    io.Closer
	root *os.Root
}

// A FormatError says that a file is not a well-formed ONNX model.
type FormatError struct {
	File   string
	Offset int64  // where in the file, -1 when unknown
	Where  string // the message or tensor it was found in
	Err    error
}

func (e *FormatError) Error() string {
	s := e.File + ": not a readable ONNX model"
	if e.Offset >= 0 {
		s += fmt.Sprintf(" (byte %d", e.Offset)
		if e.Where != "" {
			s += ", " + e.Where
		}
		s += ")"
	} else if e.Where != "" {
		s += " (" + e.Where + ")"
	}
	return s + ": " + e.Err.Error()
}

func (e *FormatError) Unwrap() error { return e.Err }

// Open reads the skeleton of the model at path. The file stays open until
// Close; external data is looked for in its folder and nowhere else. A file
// that is no ONNX model gives a *FormatError.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	m, err := Read(f, info.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	m.c = f
	// Links are resolved first: the data lies beside the model, not beside a
	// link to it.
	dir := filepath.Dir(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		dir = filepath.Dir(real)
	}
	if m.root, err = os.OpenRoot(dir); err != nil {
		m.root = nil // only models with external data need it; they will say so
	}
	return m, nil
}

// Read reads the skeleton of a model of size bytes from r, which must stay
// readable as long as the File is used. name stands for it in messages. Such a
// model cannot have external data.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	if size == 0 {
		return nil, &FormatError{File: name, Offset: -1, Err: errors.New("the file is empty")}
	}
	s := scanner{r: r, size: size}
	skeleton, err := s.walk(nil, kindModel, 0, size, 0)
	if err != nil {
		var fe *FormatError
		if errors.As(err, &fe) {
			fe.File = name
			return nil, fe
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(skeleton, m); err != nil {
		return nil, &FormatError{File: name, Offset: -1, Err: err}
	}
	if m.Graph == nil {
		return nil, &FormatError{File: name, Offset: -1, Err: errors.New("it holds no graph; is it an ONNX model?")}
	}
	return &File{Name: name, Size: size, Model: m, r: r}, nil
}

// Close releases the file.
func (f *File) Close() error {
	var err error
	if f.c != nil {
		err = f.c.Close()
		f.c = nil
	}
	if f.root != nil {
		err = errors.Join(err, f.root.Close())
		f.root = nil
	}
	return err
}

// External tells whether any initializer lies outside the file.
func (f *File) External() bool {
	for _, t := range f.Model.Graph.Initializer {
		if t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
			return true
		}
	}
	return false
}

// externalRange opens the file that holds t's data and returns it with the
// range that belongs to t. The caller closes it.
func (f *File) externalRange(t *onnxpb.TensorProto) (*os.File, int64, int64, error) {
	fail := func(err error) (*os.File, int64, int64, error) {
		return nil, 0, 0, &TensorError{File: f.Name, Tensor: t.GetName(), Err: err}
	}
	var location string
	offset, length := int64(0), int64(-1)
	for _, kv := range t.ExternalData {
		var err error
		switch kv.GetKey() {
		case "location":
			location = kv.GetValue()
		case "offset":
			offset, err = strconv.ParseInt(kv.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(kv.GetValue(), 10, 64)
		}
		if err != nil {
			return fail(fmt.Errorf("external data: %s %q is not a number", kv.GetKey(), kv.GetValue()))
		}
	}
	if location == "" {
		return fail(errors.New("external data without a location"))
	}
	if f.root == nil {
		return fail(fmt.Errorf("external data %q: the model was not opened from a folder", location))
	}
	if length < 0 {
		n, err := f.Tensor(t).denseBytes()
		if err != nil {
			return fail(err)
		}
		length = n
	}
	ext, err := f.root.Open(filepath.FromSlash(location))
	if err != nil {
		return fail(fmt.Errorf("external data: %w", err))
	}
	info, err := ext.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && (offset < 0 || offset > info.Size() || length > info.Size()-offset) {
		err = fmt.Errorf("bytes %d to %d lie beyond its end at %d", offset, offset+length, info.Size())
	}
	if err != nil {
		ext.Close()
		return fail(fmt.Errorf("external data %q: %w", location, err))
	}
	return ext, offset, length, nil
}
