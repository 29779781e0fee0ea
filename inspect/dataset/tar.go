package dataset

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tarName is the Format of tar shards.
const tarName = "tar shards"

// maxTarLabel bounds a member that holds a label.
const maxTarLabel = 1 << 20

// tarMember is a file in a shard.
type tarMember struct {
	shard     int32
	off, size int64
	// name of the shard and of the member, joined with #.
	name string
}

// tarSet is a source of images in tar files, as WebDataset writes them
// (https://github.com/webdataset/webdataset): the files of a sample have one
// key, the name up to the first dot of its last element, and stand together.
type tarSet struct {
	files     []*os.File
	samples   []tarMember
	maxPixels int64
}

// compressedTar tells whether a file name is that of a compressed tar file.
func compressedTar(name string) bool {
	name = strings.ToLower(name)
	for _, end := range []string{".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func errCompressedTar() error {
	return fault(ErrFormat, "compressed tar file; samples are read in any order, so decompress it to a .tar file first")
}

func openTar(root string, files []string, opt Options) (_ *Set, err error) {
	plan, skipped, err := planShards(files)
	if err != nil {
		return nil, err
	}
	src := &tarSet{maxPixels: opt.MaxPixels}
	defer func() {
		if err != nil {
			src.close()
		}
	}()
	var labels labelList
	var parts []Part
	for _, p := range plan {
		skipped = append(skipped, p.others(0)...)
		for _, name := range p.choices[0].files {
			full := filepath.Join(root, filepath.FromSlash(name))
			more, err := src.addShard(full, name, opt.LabelColumn, &labels)
			if err != nil {
				return nil, failure("read", full, err)
			}
			skipped = append(skipped, more...)
			for len(parts) < len(src.samples) {
				parts = append(parts, p.part)
			}
		}
	}
	if len(src.samples) == 0 {
		expected := "KEY.jpg with KEY.cls"
		if opt.LabelColumn != "" {
			expected = fmt.Sprintf("KEY.jpg with KEY.json, an object with %s", opt.LabelColumn)
		}
		if len(skipped) > 0 {
			return nil, fault(ErrEmpty, "no images with labels: %s; expected %s", SkippedText(skipped), expected)
		}
		return nil, fault(ErrEmpty, "no images with labels; expected %s", expected)
	}
	s := &Set{format: tarName, src: src, skipped: skipped}
	if slices.Contains(parts, PartTrain) && slices.Contains(parts, PartTest) {
		s.part = parts
	}
	var names []string
	if labels.isNumber {
		if names, err = opt.readLabelNames(root, "classnames.txt", "labels.txt"); err != nil {
			return nil, err
		}
	}
	if s.label, s.labels, err = labels.resolve(names, opt, src.id); err != nil {
		return nil, err
	}
	return s, nil
}

// tarKey takes a member's name apart as WebDataset does.
func tarKey(name string) (key, ext string) {
	dir, base := path.Split(name)
	cut := strings.IndexByte(base, '.')
	if cut < 0 {
		return name, ""
	}
	return dir + base[:cut], strings.ToLower(base[cut+1:])
}

func isImageExt(ext string) bool {
	return slices.Contains([]string{"jpg", "jpeg", "png", "webp", "bmp", "gif"}, ext)
}

func isLabelExt(ext string) bool {
	return slices.Contains([]string{"cls", "cls.txt", "json"}, ext)
}

// tarSample is a sample in the making.
type tarSample struct {
	image, label *tarMember
	labelExt     string
}

// addShard indexes a tar file: it reads the headers and the labels, those of a
// column from JSON alone.
func (s *tarSet) addShard(full, name, column string, labels *labelList) (skipped []Skipped, err error) {
	file, size, err := openRegular(full)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, file)
	shard := int32(len(s.files) - 1)
	samples := map[string]*tarSample{}
	var keys []string
	r := tar.NewReader(file)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fault(ErrFormat, "tar header after %d samples: %s", len(keys), strings.TrimPrefix(err.Error(), "archive/tar: "))
		}
		if h.Typeflag != tar.TypeReg || hidden(path.Base(h.Name)) {
			continue
		}
		key, ext := tarKey(h.Name)
		if !isImageExt(ext) && !isLabelExt(ext) || column != "" && isLabelExt(ext) && ext != "json" {
			continue
		}
		// A sparse file is longer than what lies in the archive.
		for k := range h.PAXRecords {
			if strings.HasPrefix(k, "GNU.sparse.") {
				return nil, fault(ErrFormat, "%s is a sparse file; write the archive without them", h.Name)
			}
		}
		off, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Size < 0 || h.Size > size-off {
			return nil, fault(ErrFormat, "%s is cut off: %d bytes, %d are left of the file", h.Name, h.Size, size-off)
		}
		m := &tarMember{shard, off, h.Size, name + "#" + h.Name}
		sample := samples[key]
		if sample == nil {
			sample = &tarSample{}
			samples[key] = sample
			keys = append(keys, key)
		}
		switch {
		case isImageExt(ext) && sample.image != nil:
			return nil, fault(ErrFormat, "sample %s has two images, the second is %s", key, h.Name)
		case isImageExt(ext):
			sample.image = m
		case sample.label == nil, sample.labelExt == "json" && ext != "json":
			sample.label, sample.labelExt = m, ext
		case ext == sample.labelExt:
			return nil, fault(ErrFormat, "sample %s has two labels, the second is %s", key, h.Name)
		}
	}
	// Next passes over the content of the last member without looking whether
	// it is there; what Next says of the headers is checked above.
	for _, key := range keys {
		sample := samples[key]
		switch {
		case sample.image == nil:
			skipped = append(skipped, Skipped{sample.label.name, "label without an image"})
			continue
		case sample.label == nil:
			what := ".cls, .cls.txt or .json"
			if column != "" {
				what = ".json with labels " + column
			}
			skipped = append(skipped, Skipped{sample.image.name, "image without a " + what + " beside it"})
			continue
		}
		if err := s.readLabel(sample, column, labels); err != nil {
			return nil, fmt.Errorf("%s: %w", sample.label.name[len(name)+1:], err)
		}
		s.samples = append(s.samples, *sample.image)
	}
	return skipped, nil
}

func (s *tarSet) readLabel(sample *tarSample, column string, labels *labelList) error {
	m := sample.label
	if m.size > maxTarLabel {
		return fault(ErrTooLarge, "label of %d bytes, at most %d are read", m.size, maxTarLabel)
	}
	data := make([]byte, m.size)
	if err := readFull(s.files[m.shard], data, m.off); err != nil {
		return err
	}
	if sample.labelExt == "json" {
		return jsonLabel(data, column, labels)
	}
	text := strings.TrimSpace(string(data))
	return textLabel(text, labels)
}

// textLabel adds a label that is a number or a name.
func textLabel(text string, labels *labelList) error {
	if text == "" || len(text) > maxLabelText || strings.ContainsAny(text, "\n\x00") {
		return fault(ErrLabel, "%q is no label", text[:min(len(text), 40)])
	}
	if v, err := strconv.ParseInt(text, 10, 64); err == nil && len(labels.texts) == 0 {
		return labels.number(v)
	}
	return labels.text(text)
}

// jsonLabel adds the label that an object has under the key column; without one,
// of its label, class or cls, or of a bare number or text.
func jsonLabel(data []byte, column string, labels *labelList) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return fault(ErrFormat, "JSON: %v", err)
	}
	o, isObject := v.(map[string]any)
	switch {
	case column != "" && !isObject:
		return fault(ErrFormat, "no labels %q: the JSON is no object", column)
	case column != "":
		var ok bool
		if v, ok = o[column]; !ok {
			return fault(ErrFormat, "no labels %q: the keys are %s", column, someOf(slices.Sorted(maps.Keys(o))))
		}
	case isObject:
		v = nil
		for _, key := range []string{"label", "class", "cls"} {
			if x, ok := o[key]; ok && v == nil {
				v = x
			}
		}
		if v == nil {
			return fault(ErrLabel, "JSON without label or class")
		}
	}
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return fault(ErrLabel, "label %s is no whole number", v)
		}
		return labels.number(n)
	case string:
		return textLabel(v, labels)
	}
	return fault(ErrLabel, "label is neither a number nor a text")
}

func (s *tarSet) len() int        { return len(s.samples) }
func (s *tarSet) id(i int) string { return s.samples[i].name }
func (s *tarSet) lenient() bool   { return true }

func (s *tarSet) open(i int) *io.SectionReader {
	m := &s.samples[i]
	return io.NewSectionReader(s.files[m.shard], m.off, m.size)
}

func (s *tarSet) decode(i int, w *scratch) error { return decodeImage(s.open(i), w, s.maxPixels) }

func (s *tarSet) size(i int) (int64, error) { return s.samples[i].size, nil }

func (s *tarSet) content(i int, _ *scratch) (io.ReadCloser, error) {
	return io.NopCloser(s.open(i)), nil
}

func (s *tarSet) close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
