// Package dataset reads labelled images: image folders, Parquet as Hugging Face
// ships it, tar shards, NumPy archives, CIFAR-10 and CIFAR-100 binary files and
// IDX files. It finds the samples, their labels and the names
// of the labels, splits them into disjoint parts, and hands them out in batches
// that are decoded, resampled and normalised ahead of their consumer.
//
// It stays with the samples: nothing here may know a model, a graph or a
// runtime. What a model wants of its input arrives as the numbers of a
// Transform.
package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Defaults of Options.
const (
	DefaultMaxPixels = 100_000_000
	DefaultMaxBytes  = 4 << 30
)

// Options of Open. The zero value is ready to use.
type Options struct {
	// Labels names the labels, index = label, and overrides what the data set
	// says about itself. For an image folder they are names of class folders
	// and so set the order too; a class folder that is not among them is an
	// error, a name without a folder is a label without samples.
	Labels []string
	// Classes are the labels of a model, index = label, see ReadClasses; not
	// together with Labels. Class folders and other labels that are names are
	// found among them by synset, name or alias, labels that are numbers by
	// number. A name that is not among them, or is that of several, is an error
	// that names it; so are classes without samples unless Subset is set.
	Classes []Class
	// Subset says that classes without samples are meant.
	Subset bool
	// LabelColumn says which labels count where the data set has several: a
	// column of Parquet, a key of the JSON objects in tar shards, the name of the
	// arrays of labels among NumPy's ("coarse_labels" of train_coarse_labels),
	// coarse_label or fine_label of CIFAR-100; upper and lower case are the same,
	// but for tar shards. It is an error where there is nothing to choose from.
	LabelColumn string
	// MaxPixels is the largest width times height of one image; 0 means
	// DefaultMaxPixels. A larger image is skipped, in arrays (IDX, NPZ) refused.
	MaxPixels int64
	// MaxBytes bounds what compressed files may hold in memory, all files of
	// the set together; 0 means DefaultMaxBytes. Compressed IDX files and NumPy
	// arrays that need more are refused; of Parquet pages compressed with gzip
	// or Zstandard those used last are kept.
	MaxBytes int64
}

func (o Options) withDefaults() Options {
	if o.MaxPixels <= 0 {
		o.MaxPixels = DefaultMaxPixels
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	return o
}

// Part says in which part of a data set a sample was shipped.
type Part uint8

// The parts. A set that does not tell training from test samples has PartNone
// throughout.
const (
	PartNone Part = iota
	PartTrain
	PartTest
)

func (p Part) String() string {
	switch p {
	case PartTrain:
		return "train"
	case PartTest:
		return "test"
	}
	return "none"
}

// Skipped names something in a data set that is not used, and why.
type Skipped struct {
	// Name is the slash-separated path below the set's root.
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// What can be wrong with a data set; found with errors.Is.
var (
	// ErrEmpty: there is no sample.
	ErrEmpty = errors.New("no samples")
	// ErrNoClasses: there are images, but no folder says what their labels are.
	ErrNoClasses = errors.New("images without class folders")
	// ErrFormat: the files do not hold what their format promises.
	ErrFormat = errors.New("malformed data")
	// ErrLabel: a label is out of range, or the names do not fit the labels.
	ErrLabel = errors.New("label out of range")
	// ErrTooLarge: a limit of Options would be passed.
	ErrTooLarge = errors.New("too large")
)

// Error says what failed and where. Err wraps one of the errors above or one
// of the operating system.
type Error struct {
	// Op is "open", "read", "decode", "transform" or "split".
	Op string
	// Path is the file or folder, or the ID of a sample.
	Path string
	Err  error
}

func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("cannot %s the data: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("cannot %s %s: %v", e.Op, e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// detail is an error with a message of its own that errors.Is still finds
// under its kind; "%w" would repeat the kind in the text.
type detail struct {
	kind error
	text string
}

func (d *detail) Error() string { return d.text }
func (d *detail) Unwrap() error { return d.kind }

func fault(kind error, format string, args ...any) error {
	return &detail{kind, fmt.Sprintf(format, args...)}
}

// failure wraps err in an *Error unless it is one already, and takes the path
// out of an operating system's error, which would otherwise be said twice.
func failure(op, path string, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return err
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{Op: op, Path: path, Err: err}
}

// source is where the samples of a set come from. It is safe for concurrent
// use as long as every goroutine brings its own scratch.
type source interface {
	len() int
	id(i int) string
	// decode leaves the sample in w.img.
	decode(i int, w *scratch) error
	// size and content are for finding equal samples: content returns the
	// bytes without the label.
	size(i int) (int64, error)
	content(i int, w *scratch) (io.ReadCloser, error)
	// lenient says that a sample which cannot be decoded is left out; else it
	// is an error.
	lenient() bool
	close() error
}

// Set is an open data set. Its methods are safe for concurrent use, except
// Close. Samples are numbered from 0; an index out of range panics.
type Set struct {
	root   string
	format string
	labels []string
	label  []int32
	part   []Part // nil: PartNone
	src    source

	mu      sync.Mutex
	skipped []Skipped
	failed  map[int]bool
}

// Open recognises what path holds and finds its samples:
//
//   - an image folder: PATH/LABEL/x.png, or PATH/train/LABEL/x.png with
//     PATH/test (val, valid, validation) beside it. PNG, JPEG, WebP, BMP and
//     the first frame of GIF, told by content; folders below a class belong to
//     it; names that begin with a dot are passed over. Labels are the folder
//     names in byte order, as torchvision's ImageFolder numbers them; a folder
//     without images is no label unless Options.Labels or Classes name it.
//   - CIFAR-10 and CIFAR-100 binary: a .bin file, or a folder with train.bin,
//     test.bin or data_batch_1.bin ..., test_batch.bin. Names come from
//     batches.meta.txt, fine_label_names.txt or coarse_label_names.txt; of
//     CIFAR-100's two labels the fine one counts unless Options.LabelColumn is
//     coarse_label.
//   - IDX, plain or .gz: an images file with its labels file beside it, or a
//     folder with train-images..., t10k-images...; of 8 bit, [N,H,W],
//     [N,H,W,C] or [N,C,H,W]; label names from labels.txt.
//   - Parquet as Hugging Face ships it: a .parquet file, or a folder with such
//     files in it or below it (data/train-00000-of-00003.parquet,
//     test.parquet). Images are image files in a column image or img, a struct
//     of bytes and path or just the bytes; labels are integers or texts in the
//     column that Options.LabelColumn names, else label, fine_label or labels;
//     names come from the ClassLabel of the metadata. A test part without labels
//     (-1) is passed over for validation.
//   - tar shards as WebDataset writes them: a .tar file, or a folder of them;
//     KEY.jpg (png, webp, ...) with KEY.cls, KEY.cls.txt or KEY.json, an object
//     with label or class. Names come from classnames.txt or labels.txt.
//   - NumPy arrays: a .npz file, or a folder with one or with .npy files.
//     x_train and y_train, train_images and train_labels, images and labels;
//     test and val likewise. Images are uint8, [N,H,W], [N,H,W,C] or [N,C,H,W];
//     labels of any integer type, [N] or [N,1]. Compressed arrays are
//     decompressed once, into memory. Names come from labels.txt.
//
// Of parts other than train and test one is taken as the test part, the first
// of test, testing, val, valid and validation; what is left out is listed by
// Skipped, as are files that are no image. The error is an *Error.
func Open(path string, opt Options) (*Set, error) {
	opt = opt.withDefaults()
	if opt.Labels != nil && opt.Classes != nil {
		return nil, failure("open", path, fault(ErrLabel, "labels are given twice, as names and as classes"))
	}
	s, err := open(path, opt)
	if err != nil {
		return nil, failure("open", path, err)
	}
	s.root = path
	if opt.Classes != nil {
		if err := s.classify(opt.Classes, opt.Subset); err != nil {
			s.Close()
			return nil, failure("open", path, err)
		}
	}
	return s, nil
}

func open(path string, opt Options) (*Set, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return openDir(path, opt)
	}
	if !st.Mode().IsRegular() {
		return nil, fault(ErrFormat, "neither a folder nor a regular file")
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case ext == ".parquet":
		return openParquet(dir, []string{name}, opt)
	case ext == ".tar":
		return openTar(dir, []string{name}, opt)
	case compressedTar(name):
		return nil, errCompressedTar()
	case ext == ".npz":
		return openNPZ(dir, name, opt)
	case ext == ".npy":
		return nil, fault(ErrFormat, "one array; give the folder with the arrays of images and of labels")
	}
	reason, fits := sniffIDX(path)
	isBin := strings.EqualFold(filepath.Ext(name), ".bin")
	switch {
	case fits, reason == nil && !isBin:
		names, err := fileNames(dir)
		if err != nil {
			return nil, err
		}
		return openIDX(dir, []string{name}, names, opt)
	case isBin:
		return openCIFAR(dir, []string{name}, opt)
	case idxLike(name):
		return nil, reason
	}
	return nil, fault(ErrFormat, "neither Parquet, tar, NPZ, CIFAR .bin nor an IDX images file; give a folder of class folders for image files")
}

// openDir opens a folder. Folders of images come before archives, which may be
// what the images were unpacked from, but not before Parquet files called train
// or test: pictures beside these illustrate.
func openDir(path string, opt Options) (*Set, error) {
	names, err := fileNames(path)
	if err != nil {
		return nil, err
	}
	if files := cifarFiles(names); len(files) > 0 {
		return openCIFAR(path, files, opt)
	}
	images, rejected := idxImages(path, names)
	if len(images) > 0 {
		return openIDX(path, images, names, opt)
	}
	ends := func(end string) func(string) bool {
		return func(n string) bool { return strings.EqualFold(filepath.Ext(n), end) }
	}
	isPart := func(n string) bool { return ends(".parquet")(n) && partWord(n) != "" }
	switch {
	case hasFiles(path, 0, isPart):
		return openShards(path, ".parquet", openParquet, opt)
	case hasFiles(path, 1, isImageFile):
	case hasFiles(path, 0, ends(".parquet")):
		return openShards(path, ".parquet", openParquet, opt)
	case hasFiles(path, 0, ends(".tar")):
		return openShards(path, ".tar", openTar, opt)
	case hasFiles(path, 0, compressedTar):
		return nil, errCompressedTar()
	default:
		names = slices.DeleteFunc(names, hidden)
		npz := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !ends(".npz")(n) })
		npy := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !ends(".npy")(n) })
		switch {
		case len(npz) == 1:
			return openNPZ(path, npz[0], opt)
		case len(npz) > 1:
			return nil, fault(ErrFormat, "more than one data set in it (%s); give one of the files", someOf(npz))
		case len(npy) > 0:
			return openNPY(path, npy, opt)
		}
	}
	s, err := openFolder(path, opt)
	if err != nil && rejected != nil {
		return nil, rejected
	}
	return s, err
}

// openShards opens all files below root that end in ext.
func openShards(root, ext string, open func(string, []string, Options) (*Set, error), opt Options) (*Set, error) {
	files, err := shardFiles(root, ext)
	if err != nil {
		return nil, err
	}
	return open(root, files, opt)
}

// oneLabel is an error when a label column was chosen in a data set that has one
// label a sample.
func (o Options) oneLabel(format string) error {
	if o.LabelColumn == "" {
		return nil
	}
	return fault(ErrFormat, "no labels %q: a sample of %s has one label; leave the choice out", o.LabelColumn, format)
}

// readLabelNames finds names for labels that are numbers beside the data: for a
// label column that was chosen in COLUMN_names.txt, else in the first of files.
func (o Options) readLabelNames(dir string, files ...string) (names []string, err error) {
	if c := o.LabelColumn; c != "" {
		if c != filepath.Base(c) {
			return nil, nil
		}
		files = []string{c + "_names.txt"}
	}
	for _, file := range files {
		if names, err = readNames(filepath.Join(dir, file)); names != nil || err != nil {
			return names, err
		}
	}
	return nil, nil
}

func isImageFile(name string) bool {
	return isImageExt(strings.TrimPrefix(strings.ToLower(filepath.Ext(name)), "."))
}

func fileNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// readNames reads one label name a line; empty lines at the end do not count.
// A file that does not exist gives no names.
func readNames(path string) ([]string, error) {
	const most = 16 << 20
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failure("read", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, failure("read", path, err)
	}
	if len(data) > most {
		return nil, failure("read", path, fault(ErrTooLarge, "more than %d bytes of label names", most))
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	var names []string
	for line := range strings.Lines(strings.TrimRight(text, " \t\r\n")) {
		names = append(names, strings.TrimSpace(line))
	}
	return names, nil
}

// Len returns the number of samples.
func (s *Set) Len() int { return len(s.label) }

// Format says what was recognised: "image folder", "CIFAR-10 binary",
// "CIFAR-100 binary", "IDX", "Parquet", "tar shards", "NPZ" or "NPY".
func (s *Set) Format() string { return s.format }

// Labels returns the name of each label, index = label. A label may be without
// samples.
func (s *Set) Labels() []string { return slices.Clone(s.labels) }

// Label returns the label of sample i.
func (s *Set) Label(i int) int { return int(s.label[i]) }

// ID returns a name of sample i that stays the same from machine to machine:
// its slash-separated path below the set's root; "train.bin#123" for record 123,
// counted from 0, of a file, "data/test.parquet#123" for a row,
// "mnist.npz/x_test#123" for an image of an array; "train-000.tar#a/b.jpg" for a
// member of a shard.
func (s *Set) ID(i int) string { return s.src.id(i) }

// Part returns the part that sample i was shipped in.
func (s *Set) Part(i int) Part {
	if s.part == nil {
		return PartNone
	}
	return s.part[i]
}

// Skipped lists what is not used, and why: files that Open found to be no
// images, class folders without any, parts that are left out, then samples that
// could not be decoded so far; each once, in the order of their names.
func (s *Set) Skipped() []Skipped {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.skipped)
	slices.SortFunc(out, func(a, b Skipped) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// drop records a sample that cannot be decoded.
func (s *Set) drop(i int, err error) Skipped {
	var e *Error
	if errors.As(err, &e) {
		err = e.Err
	}
	sk := Skipped{Name: s.ID(i), Reason: err.Error()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failed[i] {
		if s.failed == nil {
			s.failed = map[int]bool{}
		}
		s.failed[i] = true
		s.skipped = append(s.skipped, sk)
	}
	return sk
}

// Decode reads sample i. The error is an *Error that names the sample.
func (s *Set) Decode(i int) (*Image, error) {
	w := new(scratch)
	if err := s.decode(i, w); err != nil {
		return nil, err
	}
	return &w.img, nil
}

func (s *Set) decode(i int, w *scratch) error {
	if err := s.src.decode(i, w); err != nil {
		return failure("decode", s.ID(i), err)
	}
	return nil
}

// Close closes the files of the set.
func (s *Set) Close() error { return s.src.close() }
