package dataset

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The binary version of CIFAR (https://www.cs.toronto.edu/~kriz/cifar.html):
// a record is the label bytes, one for CIFAR-10, coarse and fine for
// CIFAR-100, then 1024 bytes each of red, green and blue of 32x32 pixels.
const (
	cifarSide   = 32
	cifarPixels = 3 * cifarSide * cifarSide
)

type cifarKind struct {
	format string
	// labelBytes stand before the pixels; most are their bounds.
	labelBytes int
	most       [2]int
	// label is the number of the byte that counts, labels its bound.
	label, labels int
	namesFile     string
}

// column makes the label of that name count.
func (k *cifarKind) column(name string) error {
	switch {
	case name == "":
	case k.labelBytes == 2 && strings.EqualFold(name, "fine_label"):
	case k.labelBytes == 2 && strings.EqualFold(name, "coarse_label"):
		k.label, k.labels, k.namesFile = 0, k.most[0], "coarse_label_names.txt"
	case k.labelBytes == 2:
		return fault(ErrFormat, "no labels %q: CIFAR-100 has fine_label and coarse_label", name)
	default:
		return Options{LabelColumn: name}.oneLabel("CIFAR-10")
	}
	return nil
}

func (k cifarKind) record() int64 { return int64(k.labelBytes) + cifarPixels }

func cifarKinds() []cifarKind {
	return []cifarKind{
		{"CIFAR-10 binary", 1, [2]int{10}, 0, 10, "batches.meta.txt"},
		{"CIFAR-100 binary", 2, [2]int{20, 100}, 1, 100, "fine_label_names.txt"},
	}
}

// cifarFiles picks the files of a CIFAR folder, training files first.
func cifarFiles(names []string) []string {
	var out []string
	for _, want := range []string{"train.bin", "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
		"data_batch_4.bin", "data_batch_5.bin", "test.bin", "test_batch.bin"} {
		if slices.Contains(names, want) {
			out = append(out, want)
		}
	}
	return out
}

func openCIFAR(dir string, names []string, opt Options) (_ *Set, err error) {
	var files []*recordFile
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	var sizes []int64
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, failure("open", filepath.Join(dir, name), err)
		}
		files = append(files, &recordFile{name: name, at: f, file: f,
			channels: 3, height: cifarSide, width: cifarSide})
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, failure("read", filepath.Join(dir, name), fault(ErrFormat, "not a regular file"))
		}
		sizes = append(sizes, st.Size())
	}
	if size := slices.Max(sizes); size == 0 {
		return nil, fault(ErrEmpty, "%s holds no record", strings.Join(names, ", "))
	}
	kind, labels, err := cifarKindOf(dir, files, sizes, opt)
	if err != nil {
		return nil, err
	}
	src := &records{}
	s := &Set{format: kind.format, labels: labels}
	var parts []Part
	for i, f := range files {
		f.n = int(sizes[i] / kind.record())
		f.start, f.stride = int64(kind.labelBytes), kind.record()
		src.add(f)
		part := PartTrain
		if strings.HasPrefix(f.name, "test") {
			part = PartTest
		}
		for r := range f.n {
			l, err := readLabel(f, kind, r)
			if err != nil {
				return nil, failure("read", filepath.Join(dir, f.name), err)
			}
			if int(l) >= len(labels) {
				return nil, failure("read", filepath.Join(dir, f.name), fault(ErrLabel,
					"record %d has label %d, but there are %d labels (0 to %d)", r, l, len(labels), len(labels)-1))
			}
			s.label = append(s.label, int32(l))
			parts = append(parts, part)
		}
	}
	if slices.Contains(parts, PartTrain) && slices.Contains(parts, PartTest) {
		s.part = parts
	}
	s.src = src
	return s, nil
}

func readLabel(f *recordFile, kind cifarKind, r int) (byte, error) {
	var b [2]byte
	head := b[:kind.labelBytes]
	if n, err := f.at.ReadAt(head, int64(r)*kind.record()); n < len(head) {
		if err == io.EOF {
			err = fault(ErrFormat, "record %d is cut off", r)
		}
		return 0, err
	}
	return head[kind.label], nil
}

// cifarKindOf tells CIFAR-10 from CIFAR-100 and finds the label names.
func cifarKindOf(dir string, files []*recordFile, sizes []int64, opt Options) (cifarKind, []string, error) {
	var fit []cifarKind
	for _, k := range cifarKinds() {
		if !slices.ContainsFunc(sizes, func(n int64) bool { return n%k.record() != 0 }) {
			fit = append(fit, k)
		}
	}
	if len(fit) == 0 {
		for i, f := range files {
			if sizes[i]%3073 != 0 && sizes[i]%3074 != 0 {
				return cifarKind{}, nil, failure("read", filepath.Join(dir, f.name), fault(ErrFormat,
					"%d bytes, no multiple of a CIFAR-10 record (3073) or a CIFAR-100 record (3074)", sizes[i]))
			}
		}
		return cifarKind{}, nil, fault(ErrFormat, "CIFAR-10 and CIFAR-100 files in one folder")
	}
	names := make([][]string, len(fit))
	for i, k := range fit {
		var err error
		if names[i], err = readNames(filepath.Join(dir, k.namesFile)); err != nil {
			return cifarKind{}, nil, err
		}
		if len(names[i]) > 256 {
			return cifarKind{}, nil, failure("read", filepath.Join(dir, k.namesFile),
				fault(ErrLabel, "%d label names, a CIFAR label is one byte", len(names[i])))
		}
	}
	pick := 0
	if len(fit) == 2 {
		// The size is a multiple of both. Names beside the files decide, then
		// the bytes that would be labels: read with the wrong record length
		// they are pixels.
		switch a, b := names[0] != nil, names[1] != nil; {
		case a && !b:
			pick = 0
		case b && !a:
			pick = 1
		default:
			var bad [2]bool
			for i, k := range fit {
				var err error
				if bad[i], err = cifarMisfit(files, sizes, k); err != nil {
					return cifarKind{}, nil, err
				}
			}
			if bad[0] == bad[1] {
				return cifarKind{}, nil, fault(ErrFormat,
					"cannot tell CIFAR-10 from CIFAR-100 by size or labels; put batches.meta.txt or fine_label_names.txt beside it")
			}
			if bad[0] {
				pick = 1
			}
		}
	}
	kind, labels := fit[pick], names[pick]
	if err := kind.column(opt.LabelColumn); err != nil {
		return cifarKind{}, nil, err
	}
	if kind.namesFile != fit[pick].namesFile {
		var err error
		if labels, err = readNames(filepath.Join(dir, kind.namesFile)); err != nil {
			return cifarKind{}, nil, err
		}
	}
	if opt.Labels != nil {
		labels = slices.Clone(opt.Labels)
	}
	if labels == nil {
		labels = numbered(kind.labels)
	}
	return kind, labels, nil
}

// cifarMisfit reports whether any label byte is out of range for kind.
func cifarMisfit(files []*recordFile, sizes []int64, kind cifarKind) (bool, error) {
	var b [2]byte
	head := b[:kind.labelBytes]
	for i, f := range files {
		for off := int64(0); off < sizes[i]; off += kind.record() {
			if _, err := f.at.ReadAt(head, off); err != nil {
				return false, failure("read", f.name, err)
			}
			for k, label := range head {
				if int(label) >= kind.most[k] {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// numbered returns "0", "1", ... for labels without names.
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}
