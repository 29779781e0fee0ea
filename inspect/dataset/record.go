package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// recordFile is a file of images of one size, one after the other.
type recordFile struct {
	name string
	at   io.ReaderAt
	// file is nil when the content lies in memory.
	file *os.File
	n    int
	// Image i lies at start + i*stride.
	start, stride           int64
	channels, height, width int
	// interleaved: [H,W,C] instead of [C,H,W].
	interleaved bool
}

func (f *recordFile) pixels() int { return f.channels * f.height * f.width }

// records is a source of such files, one behind the other.
type records struct {
	files []*recordFile
	first []int // number of each file's first sample
	n     int
}

func (r *records) add(f *recordFile) {
	r.files = append(r.files, f)
	r.first = append(r.first, r.n)
	r.n += f.n
}

// find returns the file of sample i and its number there.
func (r *records) find(i int) (*recordFile, int) {
	if i < 0 || i >= r.n {
		panic(fmt.Sprintf("dataset: sample %d of %d", i, r.n))
	}
	k := sort.SearchInts(r.first, i+1) - 1
	return r.files[k], i - r.first[k]
}

func (r *records) len() int      { return r.n }
func (r *records) lenient() bool { return false }

func (r *records) id(i int) string {
	f, k := r.find(i)
	return fmt.Sprintf("%s#%d", f.name, k)
}

func (r *records) read(i int, dst []byte) error {
	f, k := r.find(i)
	n, err := f.at.ReadAt(dst, f.start+int64(k)*f.stride)
	if n == len(dst) {
		return nil
	}
	if err == io.EOF {
		err = fault(ErrFormat, "file became shorter than it was")
	}
	return err
}

func (r *records) decode(i int, w *scratch) error {
	f, _ := r.find(i)
	w.img.reset(f.channels, f.height, f.width)
	if !f.interleaved || f.channels == 1 {
		return r.read(i, w.img.Pix)
	}
	raw := w.bytes(f.pixels())
	if err := r.read(i, raw); err != nil {
		return err
	}
	for c := range f.channels {
		dst := w.img.plane(c)
		for k := range dst {
			dst[k] = raw[k*f.channels+c]
		}
	}
	return nil
}

// bytes returns n bytes, content undefined.
func (w *scratch) bytes(n int) []byte {
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	return w.buf[:n]
}

func (r *records) size(i int) (int64, error) {
	f, _ := r.find(i)
	return int64(f.pixels()), nil
}

func (r *records) content(i int, w *scratch) (io.ReadCloser, error) {
	f, _ := r.find(i)
	raw := w.bytes(f.pixels())
	if err := r.read(i, raw); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (r *records) close() error { return closeAll(r.files) }

func closeAll(files []*recordFile) error {
	var errs []error
	for _, f := range files {
		if f.file != nil {
			errs = append(errs, f.file.Close())
		}
	}
	return errors.Join(errs...)
}
