package onnxfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// externalEntry is what a tensor's external_data says: a file below the model's
// folder and a range in it; length is -1 when it is not given.
type externalEntry struct {
	location       string
	offset, length int64
}

func isExternal(t *onnxpb.TensorProto) bool {
	return t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL
}

func parseExternal(t *onnxpb.TensorProto) (externalEntry, error) {
	e := externalEntry{length: -1}
	for _, kv := range t.ExternalData {
		var n *int64
		switch kv.GetKey() {
		case "location":
			e.location = kv.GetValue()
			continue
		case "offset":
			n = &e.offset
		case "length":
			n = &e.length
		default:
			continue
		}
		v, err := strconv.ParseInt(kv.GetValue(), 10, 64)
		if err != nil || v < 0 {
			return e, fmt.Errorf("external data: %s %q is not a number of bytes", kv.GetKey(), kv.GetValue())
		}
		*n = v
	}
	if e.location == "" {
		return e, errors.New("external data without a location")
	}
	return e, nil
}

// external returns what t says about its data, the length taken from the
// dimensions where it is not given.
func (t Tensor) external() (externalEntry, error) {
	e, err := parseExternal(t.p)
	if err != nil {
		return e, t.errorf("%w", err)
	}
	if e.length < 0 {
		e.length, err = t.denseBytes()
	}
	return e, err
}

// externalRange opens the file that holds t's data and returns it with the
// range that belongs to t. The caller closes it.
func (f *File) externalRange(t *onnxpb.TensorProto) (*steadyFile, int64, int64, error) {
	x := f.Tensor(t)
	e, err := x.external()
	if err != nil {
		return nil, 0, 0, err
	}
	ext, err := f.folders.open(e.location)
	if err != nil {
		return nil, 0, 0, x.errorf("external data %q: %w", e.location, err)
	}
	if err := x.within(e, ext.info.Size()); err != nil {
		ext.Close()
		return nil, 0, 0, err
	}
	return ext, e.offset, e.length, nil
}

// within fails when the range of e is not in a file of size bytes.
func (t Tensor) within(e externalEntry, size int64) error {
	if e.offset > size || e.length > size-e.offset {
		return t.errorf("external data %q: %d bytes at %d, the file has %d", e.location, e.length, e.offset, size)
	}
	return nil
}

// StoredCheck returns a function that tells why the bytes of a tensor of f do not
// fit its shape or are not there, as reading it would, but without reading them:
// a *TensorError, of ErrUnsupportedType for a type of unknown width. It opens each
// file of external data once, when the first tensor in it is asked for, and does
// not keep it open; a file that changes later is found out by whoever reads it.
// The function is not safe for concurrent use.
func (f *File) StoredCheck() func(Tensor) error {
	type dataFile struct {
		size int64
		err  error
	}
	files := make(map[string]dataFile)
	return func(t Tensor) error {
		if !isExternal(t.p) || t.p.Segment != nil {
			_, err := t.Raw(nil)
			return err
		}
		need, err := t.denseBytes()
		if err != nil {
			return err
		}
		e, err := t.external()
		if err != nil {
			return err
		}
		d, ok := files[e.location]
		if !ok {
			var ext *steadyFile
			if ext, d.err = f.folders.open(e.location); d.err == nil {
				d.size = ext.info.Size()
				ext.Close()
			}
			files[e.location] = d
		}
		if d.err != nil {
			return t.errorf("external data %q: %w", e.location, d.err)
		}
		if err := t.within(e, d.size); err != nil {
			return err
		}
		r := rawReader{t: t, s: source{n: e.length, field: rawField}, total: need}
		return r.check()
	}
}

// folders are where a model's external data may lie. Every file is opened
// through an os.Root, so whatever a location or a link says, nothing outside
// the two is read.
type folders struct {
	// given is the folder of the path that the model was opened with, nil when
	// there is none.
	given *os.Root
	// real is the folder of the model's file once links are resolved, nil when it
	// is the given one.
	real *os.Root
}

// openFolders returns the folders of the model at path. Only models with
// external data need them, so that a folder which cannot be opened is missing
// here and an error there.
func openFolders(path string) folders {
	var d folders
	dir := filepath.Dir(path)
	var err error
	if d.given, err = os.OpenRoot(dir); err != nil {
		d.given = nil
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return d
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil || sameFolder(filepath.Dir(target), dir) {
		return d
	}
	if d.real, err = os.OpenRoot(filepath.Dir(target)); err != nil {
		d.real = nil
	}
	return d
}

func sameFolder(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// DataDir returns the folder that the locations of f's external data are relative to,
// for an engine that opens it itself: that of the path it was opened with or, where
// that is a link and the data does not lie beside it, that of the file it leads to. It
// is "" for a model that was not opened from a folder.
func (f *File) DataDir() string {
	d := &f.folders
	if d.given == nil {
		return ""
	}
	dir := d.given.Name()
	if d.real == nil {
		return dir
	}
	location := ""
	eachTensor(f.Model, func(t *onnxpb.TensorProto) {
		if location == "" && isExternal(t) {
			e, _ := parseExternal(t)
			location = e.location
		}
	})
	if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(location))); err != nil {
		return d.real.Name()
	}
	return dir
}

func (d *folders) close() error {
	var errs []error
	for _, r := range []*os.Root{d.given, d.real} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	*d = folders{}
	return errors.Join(errs...)
}

// find returns the folder that a location is opened in, and its name there.
//
// The data lies beside the path that the model was opened with. Where nothing
// is there and that path was a link, it lies beside the model's own file. And in
// a cache of the kind that Hugging Face's tools keep, the model and its data
// are each a link from one folder into one other: such a link of the data is
// followed when it leads to the very folder that holds the model's own file.
func (d *folders) find(location string) (*os.Root, string, error) {
	name := filepath.FromSlash(location)
	if d.given == nil {
		return nil, "", errors.New("the model was not opened from a folder")
	}
	if d.real == nil {
		return d.given, name, nil
	}
	info, err := d.given.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.real, name, nil
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 && filepath.Base(name) == name {
		if base, ok := d.linked(name); ok {
			return d.real, base, nil
		}
	}
	return d.given, name, nil
}

// linked returns the name in the real folder that the link name in the given
// one leads to in one step.
func (d *folders) linked(name string) (string, bool) {
	target, err := d.given.Readlink(name)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		dir, err := filepath.EvalSymlinks(d.given.Name())
		if err != nil {
			return "", false
		}
		target = filepath.Join(dir, target)
	}
	return filepath.Base(target), sameFolder(filepath.Dir(target), d.real.Name())
}

// stat describes the file at a location, without opening it.
func (d *folders) stat(location string) (os.FileInfo, error) {
	root, name, err := d.find(location)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(name)
	if err != nil {
		return nil, locationError(location, err)
	}
	return info, checkData(info)
}

func (d *folders) open(location string) (*steadyFile, error) {
	root, name, err := d.find(location)
	if err != nil {
		return nil, err
	}
	open := func(name string) (*os.File, error) { return root.OpenFile(name, openFlags, 0) }
	f, err := openRegular(root.Stat, open, name)
	if err != nil {
		return nil, locationError(location, err)
	}
	if err := checkData(f.info); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ErrOutside says that external data lies where nothing is read for a model:
// outside its folder, be it by its location or behind a link.
var ErrOutside = errors.New("it lies outside the model's folder")

// locationError takes the system's path out of err, which stands beside the
// location already.
func locationError(location string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if strings.Contains(err.Error(), "escapes") { // os.Root gives its error no name
		err = fmt.Errorf("%w: %w", ErrOutside, err)
	}
	if errors.Is(err, fs.ErrNotExist) && filepath.Separator != '\\' && strings.Contains(location, `\`) {
		err = fmt.Errorf("%w (it is written with backslashes; ONNX separates folders by /)", err)
	}
	return err
}

// checkData refuses what may be the inside of another folder under a second
// name.
func checkData(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errNotRegular
	}
	if n := links(info); n > 1 {
		return fmt.Errorf("the file has %d names (hard links), one of which may lie outside the model's folder; make a copy of it", n)
	}
	return nil
}

// openRegular opens a regular file. It looks before it opens, because opening a
// device can have effects, and again after, because the name may have changed
// hands.
func openRegular(stat func(string) (os.FileInfo, error), open func(string) (*os.File, error), path string) (*steadyFile, error) {
	notRegular := &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular
	}
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = notRegular
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &steadyFile{f, info}, nil
}

var errNotRegular = errors.New("not a regular file")

// ErrChanged says that a file is no longer what it was when it was opened.
var ErrChanged = errors.New("the file changed while it was read; try again when nothing writes to it")

// A steadyFile is a file that must stay as it was opened: what was read from
// it before would not fit what is read after.
type steadyFile struct {
	*os.File
	info os.FileInfo
}

// ReadAt reads as os.File does, and fails with ErrChanged when the file has
// been written to since it was opened.
func (f *steadyFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if e := f.check(); e != nil {
		return 0, e
	}
	return n, err
}

func (f *steadyFile) check() error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if now.Size() != f.info.Size() || !now.ModTime().Equal(f.info.ModTime()) {
		return ErrChanged
	}
	return nil
}
