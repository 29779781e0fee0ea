package dataset

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// folderName is the Format of image folders.
const folderName = "image folder"

// folder is a set of image files.
type folder struct {
	root      string
	files     []string // slash-separated, below root
	maxPixels int64
}

func (f *folder) len() int          { return len(f.files) }
func (f *folder) id(i int) string   { return f.files[i] }
func (f *folder) path(i int) string { return filepath.Join(f.root, filepath.FromSlash(f.files[i])) }
func (f *folder) lenient() bool     { return true }
func (f *folder) close() error      { return nil }

func (f *folder) decode(i int, w *scratch) error {
	file, err := os.Open(f.path(i))
	if err != nil {
		return err
	}
	defer file.Close()
	return decodeImage(file, w, f.maxPixels)
}

func (f *folder) size(i int) (int64, error) {
	st, err := os.Stat(f.path(i))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *folder) content(i int, _ *scratch) (io.ReadCloser, error) { return os.Open(f.path(i)) }

// Names of folders that hold a part, the first that fits is taken.
func trainNames() []string { return []string{"train", "training"} }
func testNames() []string  { return []string{"test", "testing", "val", "valid", "validation"} }

// subfolders lists the folders in dir, links to folders too, and the rest.
func subfolders(dir string) (dirs, files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			st, err := os.Stat(filepath.Join(dir, e.Name()))
			isDir = err == nil && st.IsDir()
		}
		if isDir {
			dirs = append(dirs, e.Name())
		} else {
			files = append(files, e.Name())
		}
	}
	return dirs, files, nil
}

// hidden: what file managers and archivers leave behind.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || name == "__MACOSX"
}

// root of class folders in a data set.
type classRoot struct {
	dir  string // slash-separated, below the set's root; "" is the root itself
	part Part
}

// classRoots decides whether the folders in root are classes or parts. They
// are parts when there is one for training and one for testing, both with
// folders in them: "train" alone may as well be a label.
func classRoots(root string, dirs []string) (roots []classRoot, unused []Skipped) {
	find := func(names []string) string {
		for _, n := range names {
			for _, d := range dirs {
				if !strings.EqualFold(d, n) {
					continue
				}
				if sub, _, err := subfolders(filepath.Join(root, d)); err == nil && len(sub) > 0 {
					return d
				}
			}
		}
		return ""
	}
	train, test := find(trainNames()), find(testNames())
	switch {
	case train != "" && test != "":
		for _, d := range dirs {
			if d != train && d != test {
				unused = append(unused, Skipped{d, "folder not used: the parts are " + train + " and " + test})
			}
		}
		return []classRoot{{train, PartTrain}, {test, PartTest}}, unused
	case len(dirs) == 1 && train+test == dirs[0]:
		return []classRoot{{dirs[0], PartNone}}, nil
	}
	return []classRoot{{"", PartNone}}, nil
}

type candidate struct {
	name  string
	class string
	part  Part
	err   error
}

func openFolder(root string, opt Options) (*Set, error) {
	if err := opt.oneLabel("an image folder"); err != nil {
		return nil, err
	}
	dirs, files, err := subfolders(root)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		for _, f := range files {
			if sniffImage(filepath.Join(root, f)) == nil {
				return nil, fault(ErrNoClasses, "images but no class folders in it; expected DIR/LABEL/*.png")
			}
		}
		return nil, fault(ErrEmpty, "no images in it; expected DIR/LABEL/*.png, Parquet, tar, NPZ, CIFAR .bin or IDX files")
	}
	roots, skipped := classRoots(root, dirs)
	var found []candidate
	var folders []string
	for _, r := range roots {
		dirs, files, err := subfolders(filepath.Join(root, r.dir))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			skipped = append(skipped, Skipped{path.Join(r.dir, f), "outside of a class folder"})
		}
		for _, d := range dirs {
			sub, more := classFiles(root, path.Join(r.dir, d))
			folders = append(folders, path.Join(r.dir, d))
			for _, f := range sub {
				found = append(found, candidate{name: f, class: d, part: r.part})
			}
			skipped = append(skipped, more...)
		}
	}
	sniffAll(root, found)
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })

	// A folder without images is no class: it would shift the labels behind it.
	classes, full := map[string]bool{}, map[string]bool{}
	for _, c := range found {
		if c.err == nil {
			classes[c.class] = true
			for dir := path.Dir(c.name); dir != "."; dir = path.Dir(dir) {
				full[dir] = true
			}
		}
	}
	var hollow []Skipped
	for _, d := range folders {
		switch {
		case full[d]:
		case classes[path.Base(d)], slices.Contains(opt.Labels, path.Base(d)):
			hollow = append(hollow, Skipped{d, "class folder without images"})
		default:
			hollow = append(hollow, Skipped{d, "class folder without images; it is no label unless the labels are given"})
		}
	}
	labels := opt.Labels
	if labels == nil {
		for c := range classes {
			labels = append(labels, c)
		}
		slices.Sort(labels)
	}
	index := make(map[string]int32, len(labels))
	for i, l := range labels {
		if _, ok := index[l]; ok {
			return nil, fault(ErrLabel, "label %q is given twice", l)
		}
		index[l] = int32(i)
	}
	for c := range classes {
		if _, ok := index[c]; !ok {
			return nil, fault(ErrLabel, "class folder %q is not among the %d labels given", c, len(labels))
		}
	}

	s := &Set{format: folderName, labels: slices.Clone(labels)}
	src := &folder{root: root, maxPixels: opt.MaxPixels}
	parts := make([]Part, 0, len(found))
	for _, c := range found {
		if c.err != nil {
			skipped = append(skipped, Skipped{c.name, c.err.Error()})
			continue
		}
		src.files = append(src.files, c.name)
		s.label = append(s.label, index[c.class])
		parts = append(parts, c.part)
	}
	if roots[0].part != PartNone {
		s.part = parts
	}
	if len(src.files) == 0 {
		if len(skipped) > 0 {
			return nil, fault(ErrEmpty, "no images in it: %s", SkippedText(skipped))
		}
		return nil, fault(ErrEmpty, "no images in its class folders")
	}
	s.src, s.skipped = src, append(skipped, hollow...)
	return s, nil
}

// classFiles lists the files of a class, also those in folders below it, and
// what is passed over. name is slash-separated, below root.
func classFiles(root, name string) (files []string, skipped []Skipped) {
	entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, []Skipped{{name, plain(err)}}
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		p := path.Join(name, e.Name())
		if e.IsDir() {
			f, s := classFiles(root, p)
			files, skipped = append(files, f...), append(skipped, s...)
			continue
		}
		files = append(files, p)
	}
	return files, skipped
}

// sniffAll sets the err of candidates that are no images.
func sniffAll(root string, found []candidate) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(4*runtime.GOMAXPROCS(0), 32) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(found); i = int(next.Add(1)) - 1 {
				found[i].err = sniffImage(filepath.Join(root, filepath.FromSlash(found[i].name)))
			}
		})
	}
	wg.Wait()
}

// sniffImage returns why a file is no image, nil when it looks like one.
func sniffImage(file string) error {
	// Opening a pipe would wait for its writer.
	st, err := os.Stat(file)
	if err != nil {
		return errors.New(plain(err))
	}
	if !st.Mode().IsRegular() {
		if st.IsDir() {
			return errors.New("a link to a folder below a class is not followed")
		}
		return errors.New("not a regular file")
	}
	f, err := os.Open(file)
	if err != nil {
		return errors.New(plain(err))
	}
	defer f.Close()
	var head [sniffLen]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return errors.New(plain(err))
	}
	if _, ok := codecFor(head[:n]); !ok {
		return noImage(head[:n])
	}
	return nil
}

// plain is the text of an operating system's error without its path.
func plain(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
