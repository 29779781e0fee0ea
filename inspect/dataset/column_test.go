package dataset

import (
	"slices"
	"strings"
	"testing"
)

func TestLabelColumn(t *testing.T) {
	type row struct {
		Image  []byte `parquet:"image"`
		Fine   int64  `parquet:"fine_label"`
		Coarse int64  `parquet:"coarse_label"`
		Name   string `parquet:"name"`
	}
	parquetFile := parquetBytes(t, []row{{tiny(t, 0), 4, 1, "b"}, {tiny(t, 1), 0, 0, "a"}, {tiny(t, 2), 3, 1, "b"}})
	// Three records of CIFAR-100: coarse, fine, pixels.
	var cifar []byte
	for _, l := range [][2]byte{{1, 4}, {0, 0}, {1, 3}} {
		cifar = append(append(cifar, l[:]...), make([]byte, cifarPixels)...)
	}
	shard := tarBytes(t,
		tarFile{"a.png", tiny(t, 0)}, tarFile{"a.cls", []byte("4")}, tarFile{"a.json", []byte(`{"label": 4, "coarse_label": 1, "kind": "b"}`)},
		tarFile{"b.json", []byte(`{"label": 0, "coarse_label": 0, "kind": "a"}`)}, tarFile{"b.png", tiny(t, 1)}, tarFile{"b.cls", []byte("0")},
		tarFile{"c.png", tiny(t, 2)}, tarFile{"c.cls", []byte("3")}, tarFile{"c.json", []byte(`{"label": 3, "coarse_label": 1, "kind": "b"}`)})
	sets := map[string]map[string][]byte{
		"Parquet":   {"x.parquet": parquetFile},
		"CIFAR-100": {"train.bin": cifar, "fine_label_names.txt": []byte("f0\nf1\nf2\nf3\nf4\n"), "coarse_label_names.txt": []byte("c0\nc1\n")},
		"tar":       {"x.tar": shard, "labels.txt": []byte("f0\nf1\nf2\nf3\nf4\n"), "coarse_label_names.txt": []byte("c0\nc1\n")},
		"NPY": {"images.npy": images8(3), "labels.npy": labels8(4, 0, 3), "coarse_label.npy": labels8(1, 0, 1),
			"labels.txt": []byte("f0\nf1\nf2\nf3\nf4\n"), "coarse_label_names.txt": []byte("c0\nc1\n")},
		"plain CIFAR": {"train.bin": cifar},
	}
	for _, test := range []struct {
		set, column string
		label       []int32
		names       string
	}{
		{"Parquet", "", []int32{4, 0, 3}, "0 1 2 3 4"},
		{"Parquet", "fine_label", []int32{4, 0, 3}, "0 1 2 3 4"},
		{"Parquet", "coarse_label", []int32{1, 0, 1}, "0 1"},
		{"Parquet", "Coarse_Label", []int32{1, 0, 1}, "0 1"},
		{"Parquet", "name", []int32{1, 0, 1}, "a b"},
		{"CIFAR-100", "", []int32{4, 0, 3}, "f0 f1 f2 f3 f4"},
		{"CIFAR-100", "fine_label", []int32{4, 0, 3}, "f0 f1 f2 f3 f4"},
		{"CIFAR-100", "coarse_label", []int32{1, 0, 1}, "c0 c1"},
		{"plain CIFAR", "coarse_label", []int32{1, 0, 1}, strings.Join(numbered(20), " ")},
		{"tar", "", []int32{4, 0, 3}, "f0 f1 f2 f3 f4"},
		{"tar", "coarse_label", []int32{1, 0, 1}, "c0 c1"},
		{"tar", "kind", []int32{1, 0, 1}, "a b"},
		{"NPY", "", []int32{4, 0, 3}, "f0 f1 f2 f3 f4"},
		{"NPY", "coarse_label", []int32{1, 0, 1}, "c0 c1"},
	} {
		dir := t.TempDir()
		for name, data := range sets[test.set] {
			put(t, dir, name, data)
		}
		s := mustOpen(t, dir, Options{LabelColumn: test.column})
		if got := strings.Join(s.Labels(), " "); !slices.Equal(s.label, test.label) || got != test.names {
			t.Errorf("%s of %s: %v %s", test.column, test.set, s.label, got)
		}
	}

	sets["CIFAR-10"] = map[string][]byte{"train.bin": make([]byte, 3073), "batches.meta.txt": []byte("a\nb\n")}
	sets["folder"] = map[string][]byte{"a/x.png": tiny(t, 0)}
	sets["lists"] = map[string][]byte{"x.parquet": parquetBytes(t, []struct {
		Image []byte  `parquet:"image"`
		Label int64   `parquet:"label"`
		Tags  []int64 `parquet:"tags"`
	}{{nil, 1, nil}})}
	sets["bare"] = map[string][]byte{"x.tar": tarBytes(t, tarFile{"a.png", tiny(t, 0)}, tarFile{"a.json", []byte("3")})}
	for _, test := range []struct {
		set, column string
		is          error
		text        string
	}{
		{"Parquet", "coarse", ErrFormat, `no labels "coarse": the columns are image, fine_label, coarse_label, name`},
		{"Parquet", "image", ErrFormat, "that column holds the images"},
		{"lists", "tags", ErrFormat, "column tags holds lists"},
		{"CIFAR-100", "coarse", ErrFormat, `no labels "coarse": CIFAR-100 has fine_label and coarse_label`},
		{"CIFAR-10", "coarse_label", ErrFormat, `no labels "coarse_label": a sample of CIFAR-10 has one label`},
		{"folder", "label", ErrFormat, "a sample of an image folder has one label"},
		{"tar", "colour", ErrFormat, `no labels "colour": the keys are "coarse_label", "kind", "label"`},
		{"bare", "label", ErrFormat, `no labels "label": the JSON is no object`},
		{"NPY", "colour", ErrFormat, "expected x_train and train_colour, or images and colour, found coarse_label, images, labels"},
	} {
		dir := t.TempDir()
		for name, data := range sets[test.set] {
			put(t, dir, name, data)
		}
		checkError(t, dir, Options{LabelColumn: test.column}, test.is, test.text)
	}
}
