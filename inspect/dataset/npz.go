package dataset

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Formats of NumPy's files.
const (
	npzName = "NPZ"
	npyName = "NPY"
)

// npyArray is an array in an archive or a file of its own.
type npyArray struct {
	// name is without .npy; id is what samples are called after.
	name, id string
	// open returns the content in order; at, where it can be read in any order,
	// is nil for a deflated member. size is that of the content.
	open func() (io.ReadCloser, error)
	at   io.ReaderAt
	size int64
}

// npyRole takes an array's name apart: x_train is the images of "train". With a
// column, arrays that are called so are labels, and no others.
func npyRole(name, column string) (word string, images, labels bool) {
	words := func(s string) []string {
		return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == '_' || r == '-' || r == '.' || r == ' ' })
	}
	all, chosen := words(name), words(column)
	if n := len(chosen); n > 0 {
		for k := range len(all) - n + 1 {
			if slices.Equal(all[k:k+n], chosen) {
				return strings.Join(slices.Delete(all, k, k+n), "_"), false, true
			}
		}
	}
	var rest []string
	for _, w := range all {
		switch w {
		case "x", "image", "images", "data", "img", "imgs":
			images = true
		case "y", "label", "labels", "target", "targets":
			labels = true
		default:
			rest = append(rest, w)
		}
	}
	if images == labels || labels && len(chosen) > 0 {
		return "", false, false
	}
	return strings.Join(rest, "_"), images, labels
}

func openNPZ(dir, name string, opt Options) (_ *Set, err error) {
	full := filepath.Join(dir, name)
	file, size, err := openRegular(full)
	if err != nil {
		return nil, failure("open", full, err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	z, err := zip.NewReader(file, size)
	if err != nil {
		return nil, failure("read", full, fault(ErrFormat, "not an NPZ archive: %s", strings.TrimPrefix(err.Error(), "zip: ")))
	}
	var arrays []npyArray
	for _, m := range z.File {
		base, ok := strings.CutSuffix(m.Name, ".npy")
		if !ok {
			continue
		}
		a := npyArray{name: base, id: name + "/" + base, open: m.Open, size: int64(m.UncompressedSize64)}
		if _, images, labels := npyRole(base, opt.LabelColumn); images || labels {
			if m.Flags&1 != 0 {
				return nil, failure("read", full, fault(ErrFormat, "%s is encrypted", m.Name))
			}
			if m.Method == zip.Store {
				off, err := m.DataOffset()
				if err != nil || off < 0 || off > size || m.UncompressedSize64 > uint64(size-off) {
					return nil, failure("read", full, fault(ErrFormat, "%s is cut off", m.Name))
				}
				a.at = io.NewSectionReader(file, off, a.size)
			}
			if a.size < 0 {
				return nil, failure("read", full, fault(ErrFormat, "%s: impossible size", m.Name))
			}
		}
		arrays = append(arrays, a)
	}
	return openArrays(dir, name, arrays, []*os.File{file}, npzName, opt)
}

// openNPY opens arrays in files of their own, side by side.
func openNPY(dir string, names []string, opt Options) (_ *Set, err error) {
	var arrays []npyArray
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
		}
	}()
	for _, name := range names {
		base := strings.TrimSuffix(name, filepath.Ext(name))
		if _, images, labels := npyRole(base, opt.LabelColumn); !images && !labels {
			arrays = append(arrays, npyArray{name: base})
			continue
		}
		full := filepath.Join(dir, name)
		file, size, err := openRegular(full)
		if err != nil {
			return nil, failure("open", full, err)
		}
		files = append(files, file)
		arrays = append(arrays, npyArray{name: base, id: name, size: size, at: file,
			open: func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, size)), nil }})
	}
	return openArrays(dir, "", arrays, files, npyName, opt)
}

// openArrays pairs arrays of images with arrays of labels. The files belong to
// the set when there is no error. A deflated array of images is inflated here,
// once, into memory; opt.MaxBytes bounds all of them together.
func openArrays(dir, name string, arrays []npyArray, files []*os.File, format string, opt Options) (*Set, error) {
	at := func(a npyArray) string {
		if name != "" {
			return filepath.Join(dir, name) + ": " + a.name
		}
		return filepath.Join(dir, a.id)
	}
	images, labels := map[string]npyArray{}, map[string]npyArray{}
	var found []string
	for _, a := range arrays {
		found = append(found, a.name)
		word, isImages, isLabels := npyRole(a.name, opt.LabelColumn)
		to := labels
		switch {
		case isImages:
			to = images
		case !isLabels:
			continue
		}
		if other, ok := to[word]; ok {
			return nil, fault(ErrFormat, "arrays %s and %s look like the same", other.name, a.name)
		}
		to[word] = a
	}
	var words []string
	for word := range images {
		if _, ok := labels[word]; ok {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	if len(words) == 0 {
		expected := "y_train, or images and labels"
		if c := opt.LabelColumn; c != "" {
			expected = fmt.Sprintf("train_%s, or images and %s", c, c)
		}
		return nil, fault(ErrFormat, "no array of images with one of labels; expected x_train and %s, found %s",
			expected, strings.Join(found[:min(len(found), 12)], ", "))
	}
	plan, skipped, err := planShards(words)
	if err != nil {
		return nil, err
	}
	for k := range skipped {
		skipped[k].Name = images[skipped[k].Name].id
	}
	if len(plan) == 1 && plan[0].part == PartNone && len(words) > 1 {
		return nil, fault(ErrFormat, "several arrays of images (%s), none called train or test", strings.Join(words, ", "))
	}
	src := &records{}
	budget := opt.MaxBytes
	var list labelList
	var parts []Part
	for _, p := range plan {
		for _, c := range p.choices[1:] {
			for _, word := range c.files {
				skipped = append(skipped, Skipped{images[word].id, fmt.Sprintf("not used: %s is taken as the %s part", p.choices[0].word, p.part)})
			}
		}
		for _, word := range p.choices[0].files {
			a := images[word]
			f, err := a.records(opt, &budget)
			if err != nil {
				return nil, failure("read", at(a), err)
			}
			src.add(f)
			a = labels[word]
			if err := a.readLabels(f.n, &list); err != nil {
				return nil, failure("read", at(a), err)
			}
			for range f.n {
				parts = append(parts, p.part)
			}
		}
	}
	if src.n == 0 {
		return nil, fault(ErrEmpty, "its arrays hold no images")
	}
	s := &Set{format: format, src: src, skipped: skipped}
	if slices.Contains(parts, PartTrain) && slices.Contains(parts, PartTest) {
		s.part = parts
	}
	names, err := opt.readLabelNames(dir, "labels.txt")
	if err != nil {
		return nil, err
	}
	if s.label, s.labels, err = list.resolve(names, opt, src.id); err != nil {
		return nil, err
	}
	for _, f := range files {
		src.files = append(src.files, &recordFile{file: f}) // to be closed
	}
	return s, nil
}

// header reads the header of an array and returns what follows it.
func (a *npyArray) header() (h npyHeader, r io.Reader, close func() error, err error) {
	rc, err := a.open()
	if err != nil {
		return h, nil, nil, fault(ErrFormat, "%v", err)
	}
	br := bufio.NewReaderSize(rc, 64<<10)
	if h, err = readNPYHeader(br); err == nil && h.start+h.bytes() != a.size {
		err = fault(ErrFormat, "%d bytes, its shape %v says %d", a.size, h.shape, h.start+h.bytes())
	}
	if err != nil {
		rc.Close()
		return h, nil, nil, err
	}
	return h, br, rc.Close, nil
}

// records opens an array of images.
func (a *npyArray) records(opt Options, budget *int64) (*recordFile, error) {
	h, r, done, err := a.header()
	if err != nil {
		return nil, err
	}
	defer done()
	f, err := h.images(opt)
	if err != nil {
		return nil, err
	}
	f.name, f.at = a.id, a.at
	if f.at != nil {
		return f, nil
	}
	if h.bytes() > *budget {
		return nil, fault(ErrTooLarge, "%d bytes when decompressed, %d are left of the limit; save it with numpy.savez, which does not compress", h.bytes(), *budget)
	}
	// In steps: a size that lies costs no more than what is there.
	b := &blocks{}
	for b.size < h.bytes() {
		piece := make([]byte, min(blockSize, h.bytes()-b.size))
		if _, err := io.ReadFull(r, piece); err != nil {
			return nil, inflateError(err)
		}
		b.piece, b.size = append(b.piece, piece), b.size+int64(len(piece))
	}
	// Reading on to the end also verifies the checksum.
	if n, err := r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return nil, inflateError(err)
	}
	*budget -= b.size
	f.at, f.start = b, 0
	return f, nil
}

func inflateError(err error) error {
	if err == nil {
		return fault(ErrFormat, "compressed data is longer than its size says")
	}
	return short(err, "compressed data is cut off")
}

func (a *npyArray) readLabels(n int, out *labelList) error {
	h, r, done, err := a.header()
	if err != nil {
		return err
	}
	defer done()
	return h.labels(r, n, out)
}
