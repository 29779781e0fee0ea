// Package onnxfile is the ONNX file itself: its skeleton in memory, its weights
// left where they lie, and the way back to disk.
//
// Open walks the protobuf wire format once and keeps everything but the large
// payloads of tensors, which become byte ranges; the official protobuf library
// then decodes a few kilobytes. Nothing is mapped into memory, so that a file
// which is cut short is an error of the read and not a fault. A Draft is a changed skeleton; writing one
// splices untouched payloads straight from the source. What a graph means
// (operators, shapes, layers) does not enter here.
package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A File is an opened ONNX model. Its methods, Close excepted, are safe for
// concurrent use as long as Model is not modified; to change a model, take a
// Draft.
type File struct {
	// Name is the path it was opened with, or what the reader was called.
	Name string
	// Size is the size of the file in bytes, external data not counted.
	Size int64
	// Model is the skeleton. Payloads above a few hundred bytes are missing
	// from its tensors; read them through Tensor.
	Model *onnxpb.ModelProto

	r       io.ReaderAt
	c       io.Closer
	folders folders
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
// Close, and reading it fails with ErrChanged once something has written to it.
// A file that is no ONNX model gives a *FormatError.
//
// External data is read from the folder of path or, where path is a link, from
// that of the file it leads to; a link from the one straight into the other is
// followed, as caches of downloads have them. Whatever lies elsewhere is refused,
// and so is a file with a second name (a hard link), which may lie elsewhere.
func Open(path string) (*File, error) {
	open := func(path string) (*os.File, error) { return os.OpenFile(path, openFlags, 0) }
	f, err := openRegular(os.Stat, open, path)
	if err != nil {
		return nil, err
	}
	m, err := Read(f.File, f.info.Size(), path)
	if cerr := f.check(); cerr != nil { // explains any other error
		err = fmt.Errorf("%s: %w", path, cerr)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	m.r, m.c = f, f
	m.folders = openFolders(path)
	return m, nil
}

// Read reads the skeleton of a model of size bytes from r, which must stay
// readable as long as the File is used. name stands for it in messages. Such a
// model cannot have external data. What is no ONNX model gives a *FormatError,
// what cannot be read an *fs.PathError.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	return readFile(r, size, name, payloadLimit)
}

// ReadIn is Read for a model whose external data is read from the folder dir, by
// the rules that Open has for the folder of a path. A folder that cannot be opened
// is an error of the tensors that lie there.
func ReadIn(r io.ReaderAt, size int64, name, dir string) (*File, error) {
	f, err := Read(r, size, name)
	if err != nil {
		return nil, err
	}
	if root, err := os.OpenRoot(dir); err == nil {
		f.folders.given = root
	}
	return f, nil
}

func readFile(r io.ReaderAt, size int64, name string, limit int64) (*File, error) {
	if size == 0 {
		return nil, &FormatError{File: name, Offset: -1, Err: errors.New("the file is empty")}
	}
	s := scanner{r: r, name: name, size: size, limit: limit}
	skeleton, err := s.walk(nil, kindModel, 0, size, 0)
	if err != nil {
		var fe *FormatError
		if !errors.As(err, &fe) {
			return nil, err // names the file already
		}
		fe.File = name
		if lfs, err := s.bytes(0, int64(len(lfsPointer))); err == nil && string(lfs) == lfsPointer {
			fe.Err = errors.New("it is a git-lfs pointer, fetch the model with git lfs pull")
		}
		return nil, fe
	}
	if err := checkCost(skeleton); err != nil {
		return nil, &FormatError{File: name, Offset: -1, Err: err}
	}
	m := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(skeleton, m); err != nil {
		// What the walk does not enter; protobuf does not say where it was.
		return nil, &FormatError{File: name, Offset: -1, Err: errors.New("a field does not decode as the ONNX schema says")}
	}
	if m.Graph == nil {
		return nil, &FormatError{File: name, Offset: -1, Err: errors.New("it holds no graph; is it an ONNX model?")}
	}
	return &File{Name: name, Size: size, Model: m, r: r}, nil
}

// Copy writes the file as it is to w, without its external data.
func (f *File) Copy(w io.Writer) error {
	_, err := rangeContent{f, 0, f.Size}.WriteTo(w)
	return err
}

// lfsPointer begins the file that stands for a model in a clone without git-lfs.
const lfsPointer = "version https://git-lfs"

// Close releases the file.
func (f *File) Close() error {
	var err error
	if f.c != nil {
		err = f.c.Close()
		f.c = nil
	}
	return errors.Join(err, f.folders.close())
}

// External tells whether any tensor of the model lies outside the file.
func (f *File) External() bool {
	found := false
	eachTensor(f.Model, func(t *onnxpb.TensorProto) {
		found = found || isExternal(t)
	})
	return found
}

// eachTensor calls fn with every tensor of m: initializers and attributes, in
// nested graphs, functions and training graphs too.
func eachTensor(m *onnxpb.ModelProto, fn func(*onnxpb.TensorProto)) {
	sparse := func(list ...*onnxpb.SparseTensorProto) {
		for _, s := range list {
			for _, t := range []*onnxpb.TensorProto{s.GetValues(), s.GetIndices()} {
				if t != nil {
					fn(t)
				}
			}
		}
	}
	var graph func(*onnxpb.GraphProto)
	attributes := func(list []*onnxpb.AttributeProto) {
		for _, a := range list {
			if a.T != nil {
				fn(a.T)
			}
			for _, t := range a.Tensors {
				fn(t)
			}
			sparse(a.SparseTensor)
			sparse(a.SparseTensors...)
			graph(a.G)
			for _, g := range a.Graphs {
				graph(g)
			}
		}
	}
	graph = func(g *onnxpb.GraphProto) {
		for _, t := range g.GetInitializer() {
			fn(t)
		}
		sparse(g.GetSparseInitializer()...)
		for _, n := range g.GetNode() {
			attributes(n.Attribute)
		}
	}
	graph(m.Graph)
	for _, t := range m.TrainingInfo {
		graph(t.Initialization)
		graph(t.Algorithm)
	}
	for _, f := range m.Functions {
		attributes(f.AttributeProto)
		for _, n := range f.Node {
			attributes(n.Attribute)
		}
	}
}
