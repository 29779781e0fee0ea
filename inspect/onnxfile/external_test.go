package onnxfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// tree makes files in a new folder from lines "name", "name -> link target" and
// "name = other name" (a hard link). A name that ends in .onnx is a model whose
// tensor lies at location; others hold two floats, 0 and 1, files named secret
// 2 and 3. The folder holds TREE for links that are absolute.
func tree(t testing.TB, location string, lines ...string) string {
	t.Helper()
	root := t.TempDir()
	x := external(tensorOf("w", onnxpb.TensorProto_FLOAT, 2), location, 0, 8)
	model := marshal(t, modelOf(x))
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, " -> ")
		name, other, isHard := strings.Cut(name, " = ")
		path := filepath.Join(root, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case isLink:
			if err = os.Symlink(filepath.FromSlash(strings.ReplaceAll(target, "TREE", root)), path); err != nil {
				t.Skip(err)
			}
		case isHard:
			if err = os.Link(filepath.Join(root, other), path); err != nil {
				t.Skip(err)
			}
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, ".fifo"):
			mkfifo(t, path)
		case strings.HasSuffix(name, ".onnx") || strings.HasSuffix(name, "HASH1"):
			write(t, path, model)
		case strings.HasSuffix(name, "secret"):
			write(t, path, []byte{0, 0, 0, 64, 0, 0, 64, 64})
		default:
			write(t, path, []byte{0, 0, 0, 0, 0, 0, 128, 63})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestExternalDataBehindLinks(t *testing.T) {
	cache := []string{
		"hub/blobs/HASH1", "hub/blobs/HASH2", "hub/blobs/secret", "secret", "hub/secret",
		"hub/snapshots/rev/m.onnx -> ../../blobs/HASH1",
	}
	in := func(lines ...string) []string { return append(slices.Clone(cache), lines...) }
	for _, c := range []struct {
		name, model, location, want string
		tree                        []string
	}{
		{"beside the model", "m.onnx", "w.bin", "", []string{"m.onnx", "w.bin"}},
		{"in a folder below", "m.onnx", "a/b/w.bin", "", []string{"m.onnx", "a/b/w.bin"}},
		{"link inside", "m.onnx", "w", "", []string{"m.onnx", "w -> a/w.bin", "a/w.bin"}},
		{"chain inside", "m.onnx", "w", "", []string{"m.onnx", "w -> v", "v -> ./u", "u -> w.bin", "w.bin"}},
		{"chain that ends outside", "d/m.onnx", "w", "escapes", []string{"d/m.onnx", "d/w -> v", "d/v -> ../secret", "secret"}},
		{"chain out and back", "d/m.onnx", "w", "escapes", []string{"d/m.onnx", "d/w -> ../back", "back -> d/w.bin", "d/w.bin"}},
		{"absolute link to its own folder", "m.onnx", "w", "escapes", []string{"m.onnx", "w -> TREE/w.bin", "w.bin"}},
		{"folder that is a link outside", "d/m.onnx", "a/secret", "escapes", []string{"d/m.onnx", "d/a -> ../other", "other/secret"}},
		{"endless links", "m.onnx", "w", "too many", []string{"m.onnx", "w -> v", "v -> w"}},
		{"dot dot", "d/m.onnx", "../secret", "escapes", []string{"d/m.onnx", "secret"}},
		{"dot dot and in again", "d/m.onnx", "../d/w.bin", "escapes", []string{"d/m.onnx", "d/w.bin"}},
		{"device", "m.onnx", "/dev/zero", "escapes", []string{"m.onnx"}},
		{"link to a device", "m.onnx", "zero", "escapes", []string{"m.onnx", "zero -> /dev/zero"}},
		{"pipe", "m.onnx", "w.fifo", "not a regular file", []string{"m.onnx", "w.fifo"}},
		{"link to a pipe", "m.onnx", "w", "not a regular file", []string{"m.onnx", "w -> w.fifo", "w.fifo"}},
		{"folder", "m.onnx", "d", "not a regular file", []string{"m.onnx", "d/"}},
		{"folder with a slash", "m.onnx", "d/", "not a regular file", []string{"m.onnx", "d/"}},
		{"file with a slash", "m.onnx", "w.bin/", "not a directory", []string{"m.onnx", "w.bin"}},
		{"hard link", "m.onnx", "w", "2 names (hard links)", []string{"m.onnx", "secret", "w = secret"}},
		{"link to a hard link", "m.onnx", "v", "2 names (hard links)", []string{"m.onnx", "secret", "w = secret", "v -> w"}},

		{"model behind a link, data beside the file", "link.onnx", "w.bin", "", []string{"d/m.onnx", "d/w.bin", "link.onnx -> d/m.onnx"}},
		{"model behind a link, data below the file", "link.onnx", "a/w.bin", "", []string{"d/m.onnx", "d/a/w.bin", "link.onnx -> d/m.onnx"}},
		{"model behind a link, data beside the link", "link.onnx", "w.bin", "", []string{"d/m.onnx", "w.bin", "link.onnx -> d/m.onnx"}},
		{"model behind a link, data at both: that of the path counts", "link.onnx", "x", "", []string{"d/m.onnx", "d/x -> secret", "d/secret", "x", "link.onnx -> d/m.onnx"}},
		{"model behind two links", "a/link.onnx", "w.bin", "", []string{"d/m.onnx", "d/w.bin", "b/link.onnx -> ../d/m.onnx", "a/link.onnx -> ../b/link.onnx"}},
		{"model behind a link in its folder", "link.onnx", "w.bin", "", []string{"m.onnx", "w.bin", "link.onnx -> m.onnx"}},
		{"model behind a link, dot dot", "link.onnx", "../secret", "escapes", []string{"d/m.onnx", "secret", "link.onnx -> d/m.onnx"}},
		{"model behind a link, into the real folder by name", "e/link.onnx", "../d/w.bin", "escapes", []string{"d/m.onnx", "d/w.bin", "e/link.onnx -> ../d/m.onnx"}},
		{"folder of the model is a link", "link/m.onnx", "w.bin", "", []string{"d/m.onnx", "d/w.bin", "link -> d"}},

		{"cache", "hub/snapshots/rev/m.onnx", "w", "", in("hub/snapshots/rev/w -> ../../blobs/HASH2")},
		{"cache through a linked folder", "now/m.onnx", "w", "", in("hub/snapshots/rev/w -> ../../blobs/HASH2", "now -> hub/snapshots/rev")},
		{"cache, absolute links", "hub/snapshots/rev/m.onnx", "w", "", in("hub/snapshots/rev/w -> TREE/hub/blobs/HASH2")},
		{"cache, link to another folder", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/snapshots/rev/w -> ../../secret")},
		{"cache, link far outside", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/snapshots/rev/w -> ../../../secret")},
		{"cache, link below the blobs", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/blobs/sub/secret", "hub/snapshots/rev/w -> ../../blobs/sub/secret")},
		{"cache, two links", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/snapshots/rev/w -> v", "hub/snapshots/rev/v -> ../../blobs/HASH2")},
		{"cache, blob that is a link outside", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/blobs/HASH3 -> ../secret", "hub/snapshots/rev/w -> ../../blobs/HASH3")},
		{"cache, link to a folder", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/snapshots/rev/w -> ../../blobs/.")},
		{"cache, link to its parent", "hub/snapshots/rev/m.onnx", "w", "escapes", in("hub/snapshots/rev/w -> ../../blobs/..")},
		{"cache, dangling", "hub/snapshots/rev/m.onnx", "w", "no such file", in("hub/snapshots/rev/w -> ../../blobs/HASH9")},
		{"cache, blob that is a hard link", "hub/snapshots/rev/m.onnx", "w", "2 names", in("hub/blobs/HASH4 = secret", "hub/snapshots/rev/w -> ../../blobs/HASH4")},
		{"cache, data in a subfolder", "hub/snapshots/rev/m.onnx", "onnx/w", "escapes", in("hub/snapshots/rev/onnx/w -> ../../../blobs/HASH2")},
		{"cache, data in a linked folder", "hub/snapshots/rev/m.onnx", "onnx/HASH2", "escapes", in("hub/snapshots/rev/onnx -> ../../blobs")},
		{"the cache's link, but the model is a file", "hub/snapshots/rev/n.onnx", "w", "escapes", in("hub/snapshots/rev/n.onnx", "hub/snapshots/rev/w -> ../../blobs/HASH2")},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree(t, c.location, c.tree...)
			f := openAt(t, filepath.Join(root, filepath.FromSlash(c.model)))
			x := f.Tensor(f.Model.Graph.Initializer[0])
			layout, err := f.Layout(t.Context())
			if err != nil || len(layout.Extents) != 1 || len(layout.Data) != 1 {
				t.Fatalf("layout %v, %v", layout, err)
			}
			data := layout.Data[0]
			got, err := within(t, func() ([]float32, error) { return x.Float32s(2) })
			if c.want == "" {
				if err != nil || !slices.Equal(got, []float32{0, 1}) {
					t.Errorf("%v, %v", got, err)
				}
				if data.Err != nil || data.Size != 8 {
					t.Errorf("layout: %v", data)
				}
				return
			}
			var te *TensorError
			if !errors.As(err, &te) || te.Tensor != "w" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), root+"/secret") {
				t.Errorf("%v, %v, want %q", got, err, c.want)
			}
			if data.Err == nil || data.Size != 0 {
				t.Errorf("layout: %v", data)
			}
		})
	}
}

// within fails when fn waits, as opening a pipe would.
func within(t *testing.T, fn func() ([]float32, error)) ([]float32, error) {
	t.Helper()
	type result struct {
		v   []float32
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := fn()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
		return nil, nil
	}
}

func TestBackslashesAreNamed(t *testing.T) {
	if filepath.Separator == '\\' {
		t.Skip("they separate folders here")
	}
	root := tree(t, `a\w.bin`, "m.onnx", "a/w.bin")
	f := openAt(t, filepath.Join(root, "m.onnx"))
	_, err := f.Tensor(f.Model.Graph.Initializer[0]).Float32s(2)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "backslashes") {
		t.Error(err)
	}
	write(t, filepath.Join(root, `a\w.bin`), []byte{0, 0, 0, 0, 0, 0, 128, 63})
	if _, err := f.Tensor(f.Model.Graph.Initializer[0]).Float32s(2); err != nil {
		t.Errorf("a name with a backslash: %v", err)
	}
}

// A file that is cut, overwritten or replaced between opening and reading, and
// while it is read.
func TestFilesThatChange(t *testing.T) {
	const n = 4 * blockElements
	later := time.Now().Add(time.Hour)
	cut := func(size int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	overwrite := func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{1}, 4*n/2); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, later, later); err != nil { // the clock may be coarse
			t.Fatal(err)
		}
	}
	replace := func(t *testing.T, path string) {
		write(t, path+".new", bytes.Repeat([]byte{0, 0, 0, 64}, n+50))
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name           string
		change         func(t *testing.T, path string)
		before, during bool // whether reading is an error
		outside        bool // the same for external data, before
	}{
		{"cut to nothing", cut(0), true, true, true},
		{"cut in half", cut(2 * n), true, true, true},
		{"cut by one byte", cut(4*n - 1), true, true, true},
		{"grown", cut(4*n + 10_000), true, true, false},
		{"overwritten", overwrite, true, true, false},
		// The file that was opened lives on without a name.
		{"replaced", replace, false, false, false},
	} {
		for _, out := range []bool{false, true} {
			name := c.name + ", inside"
			if out {
				name = c.name + ", outside"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				raw := make([]byte, 4*n)
				changed := filepath.Join(dir, "m.onnx")
				x := tensorOf("w", onnxpb.TensorProto_FLOAT, n)
				start := func() (*File, Tensor) {
					if out {
						changed = write(t, filepath.Join(dir, "w.bin"), raw)
						external(x, "w.bin", 0, 4*n)
					} else {
						x.RawData = raw
					}
					f := openAt(t, write(t, filepath.Join(dir, "m.onnx"), marshal(t, modelOf(x))))
					return f, f.Tensor(f.Model.Graph.Initializer[0])
				}
				check := func(err error, want bool) {
					t.Helper()
					var te *TensorError
					if want != (err != nil) || want && !errors.As(err, &te) {
						t.Errorf("error %v, want one: %v", err, want)
					}
				}
				f, w := start()
				c.change(t, changed)
				want := c.before
				if out {
					want = c.outside
				}
				check(w.Values(func([]float64) error { return nil }), want)
				_, err := w.Hash(t.Context())
				check(err, want)
				if _, err := f.Draft().Bytes(); !out && want != errors.Is(err, ErrChanged) {
					t.Errorf("Draft: %v", err)
				}
				_, w = start()
				blocks := 0
				err = w.Values(func([]float64) error {
					if blocks++; blocks == 1 {
						c.change(t, changed)
					}
					return nil
				})
				check(err, c.during)
				if c.during && !errors.Is(err, ErrChanged) {
					t.Errorf("not ErrChanged: %v", err)
				}
			})
		}
	}
}

type broken struct {
	*bytes.Reader
	from int64
}

var errBroken = errors.New("input/output error")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errBroken
	}
	return b.Reader.ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	x := tensorOf("w", onnxpb.TensorProto_UINT8, 400_000)
	x.RawData = make([]byte, 400_000)
	b := marshal(t, modelOf(x))
	_, err := Read(broken{bytes.NewReader(b), 10}, int64(len(b)), "m.onnx")
	var pe *fs.PathError
	if !errors.As(err, &pe) || pe.Path != "m.onnx" || !errors.Is(err, errBroken) || strings.Contains(err.Error(), "ONNX") {
		t.Errorf("Read: %v", err)
	}
	r := &broken{bytes.NewReader(b), int64(len(b))}
	f, err := Read(r, int64(len(b)), "m.onnx")
	if err != nil {
		t.Fatal(err)
	}
	r.from = 300_000
	w := f.Tensor(f.Model.Graph.Initializer[0])
	none := func([]float64) error { return nil }
	_, hash := w.Hash(t.Context())
	_, same := SameData(w, w)
	_, all := w.Float32s(400_000)
	for name, err := range map[string]error{
		"Values": w.Values(none), "ValuesIn": w.ValuesIn(350_000, 350_001, none), "Hash": hash, "SameData": same, "Float32s": all,
		"Float32sIn": w.Float32sIn(0, 400_000, nil, func([]float32) error { return nil }),
		"Pairs":      Pairs(w, w, func(x, y []float64, same bool) error { return nil }),
	} {
		var te *TensorError
		if !errors.As(err, &te) || te.Tensor != "w" || te.File != "m.onnx" || !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.ValuesIn(0, 1000, none); err != nil {
		t.Errorf("a part that can be read: %v", err)
	}
	if _, err := f.Draft().Bytes(); !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "m.onnx: ") {
		t.Errorf("Draft: %v", err)
	}
}

func TestReadIn(t *testing.T) {
	root := tree(t, "w", "d/m.onnx", "d/w -> v", "d/v", "e/w -> ../secret", "secret")
	b, err := os.ReadFile(filepath.Join(root, "d", "m.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"d": "", "e": ErrOutside.Error(), ".": "no such file", "nowhere": "not opened from a folder"} {
		f, err := ReadIn(bytes.NewReader(b), int64(len(b)), "bytes", filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Tensor(f.Model.Graph.Initializer[0]).Float32s(2)
		if want == "" && (err != nil || !slices.Equal(got, []float32{0, 1})) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v", dir, got, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLayout(t *testing.T) {
	root := tree(t, "w.bin", "m.onnx", "w.bin", "other.bin", "again -> w.bin", "secret", "hard = secret")
	big := tensorOf("big", onnxpb.TensorProto_UINT8, 600)
	big.RawData = bytes.Repeat([]byte{7}, 600)
	small := tensorOf("small", onnxpb.TensorProto_INT64, 2)
	small.Int64Data = []int64{1, 300}
	text := tensorOf("text", onnxpb.TensorProto_STRING, 1)
	text.StringData = [][]byte{[]byte("cat")}
	at := func(name, location string, offset, length int64) *onnxpb.TensorProto {
		return external(tensorOf(name, onnxpb.TensorProto_UINT8, length), location, offset, length)
	}
	noLength := at("no length", "w.bin", 2, 4)
	noLength.ExternalData = noLength.ExternalData[:2]
	bad := at("bad", "w.bin", -1, 4)
	m := modelOf(big, small, tensorOf("empty", onnxpb.TensorProto_FLOAT, 0), text, at("first", "w.bin", 0, 4), noLength, bad,
		at("link", "again", 4, 4), at("spelled", "./w.bin", 6, 2), at("beyond", "other.bin", 5, 100), at("missing", "gone.bin", 0, 4),
		at("hard", "hard", 0, 4), at("out", "../x", 0, 4))
	m.Graph.Node = []*onnxpb.NodeProto{{Attribute: []*onnxpb.AttributeProto{{G: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{at("nested", "other.bin", 0, 8)}}}}}}
	b := marshal(t, m)
	f := openAt(t, write(t, filepath.Join(root, "m.onnx"), b))
	l, err := f.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		tensor, file   string
		offset, length int64
		err            bool
	}{
		{"big", "", int64(bytes.Index(b, big.RawData)), 600, false},
		{"small", "", -1, 3, false}, {"text", "", -1, 3, false},
		{"first", "w.bin", 0, 4, false}, {"no length", "w.bin", 2, 4, false}, {"bad", "w.bin", 0, 0, true},
		{"link", "w.bin", 4, 4, false}, {"spelled", "w.bin", 6, 2, false}, {"beyond", "other.bin", 5, 100, false},
		{"missing", "gone.bin", 0, 4, false}, {"hard", "hard", 0, 4, false}, {"out", "../x", 0, 4, false}, {"nested", "other.bin", 0, 8, false},
	}
	if len(l.Extents) != len(want) {
		t.Fatalf("%d extents, want %d", len(l.Extents), len(want))
	}
	for i, w := range want {
		if e := l.Extents[i]; e.Tensor.Name() != w.tensor || e.File != w.file || e.Offset != w.offset || e.Length != w.length || (e.Err != nil) != w.err {
			t.Errorf("%+v, want %+v", e, w)
		}
	}
	var got []string
	for _, d := range l.Data {
		s := d.Location
		if d.Err != nil {
			s += " !"
		} else if d.Size != 8 {
			t.Errorf("%s: %d bytes", d.Location, d.Size)
		}
		got = append(got, s)
	}
	if want := []string{"w.bin", "other.bin", "gone.bin !", "hard !", "../x !"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if l, err := read(t, b).Layout(t.Context()); err != nil || len(l.Extents) != len(want) || l.Data[0].Err == nil {
		t.Errorf("without a folder: %v", err)
	}
}

func TestHash(t *testing.T) {
	rawed := tensorOf("raw", onnxpb.TensorProto_INT16, 900)
	typed := tensorOf("typed", onnxpb.TensorProto_INT16, 900)
	for i := range 900 {
		typed.Int32Data = append(typed.Int32Data, int32(i-450))
		rawed.RawData = append(rawed.RawData, byte(i-450), byte((i-450)>>8))
	}
	changed := proto.Clone(rawed).(*onnxpb.TensorProto)
	changed.RawData[899]++
	str := func(list ...string) *onnxpb.TensorProto {
		x := tensorOf("s", onnxpb.TensorProto_STRING, int64(len(list)))
		for _, s := range list {
			x.StringData = append(x.StringData, []byte(s))
		}
		return x
	}
	f := read(t, marshal(t, modelOf(rawed, typed, changed, str("ab", "c"), str("a", "bc"), tensorOf("none", onnxpb.TensorProto_FLOAT, 0))))
	seen := map[[32]byte]int{}
	var sums [][32]byte
	for _, p := range f.Model.Graph.Initializer {
		sum, err := f.Tensor(p).Hash(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
		seen[sum]++
	}
	if sums[0] != sums[1] || len(seen) != 5 {
		t.Errorf("%d hashes: %x", len(seen), sums)
	}
}

// StoredCheck says of every tensor what reading it says, and opens each file once.
func TestStoredCheck(t *testing.T) {
	root := tree(t, "w.bin", "m.onnx", "w.bin", "again -> w.bin", "secret", "hard = secret", "out -> ../outside", "a.fifo")
	at := func(name, location string, offset, length int64) *onnxpb.TensorProto {
		return external(tensorOf(name, onnxpb.TensorProto_UINT8, 4), location, offset, length)
	}
	segment := at("segment", "w.bin", 0, 4)
	segment.Segment = &onnxpb.TensorProto_Segment{}
	text := tensorOf("text", onnxpb.TensorProto_STRING, 1)
	text.StringData = [][]byte{[]byte("cat")}
	short := tensorOf("short", onnxpb.TensorProto_FLOAT, 4)
	short.RawData = make([]byte, 3)
	negative := at("negative", "w.bin", 0, 4)
	negative.Dims[0] = -1
	noLength := at("no length", "w.bin", 2, 4)
	noLength.ExternalData = noLength.ExternalData[:2]
	f := openAt(t, write(t, filepath.Join(root, "m.onnx"), marshal(t, modelOf(at("fits", "w.bin", 0, 4), noLength, at("too long", "w.bin", 0, 5),
		at("beyond", "w.bin", 5, 4), at("link", "again", 4, 4), at("missing", "gone.bin", 0, 4), at("missing too", "gone.bin", 0, 4),
		at("hard", "hard", 0, 4), at("out", "../x", 0, 4), at("linked out", "out", 0, 4), at("pipe", "a.fifo", 0, 4), at("bad", "w.bin", -1, 4), segment, text, short, negative))))
	check := f.StoredCheck()
	fits := 0
	for _, p := range f.Model.Graph.Initializer {
		x := f.Tensor(p)
		_, want := x.Raw(nil)
		got := check(x)
		if fmt.Sprint(got) != fmt.Sprint(want) || errors.Is(got, ErrUnsupportedType) != errors.Is(want, ErrUnsupportedType) {
			t.Errorf("%s: %v, reading it says %v", x.Name(), got, want)
		}
		var te *TensorError
		if got == nil {
			fits++
		} else if !errors.As(got, &te) {
			t.Errorf("%s: %T", x.Name(), got)
		}
	}
	if fits != 3 {
		t.Errorf("%d tensors fit, want 3", fits)
	}
	// What it knows of a file is of no use to a reader.
	if err := os.Truncate(filepath.Join(root, "w.bin"), 2); err != nil {
		t.Fatal(err)
	}
	fresh := f.Tensor(f.Model.Graph.Initializer[0])
	if err := check(fresh); err != nil {
		t.Errorf("the file was opened again: %v", err)
	}
	if err := f.StoredCheck()(fresh); err == nil {
		t.Error("a new check does not see that the file has become shorter")
	}
	if err := fresh.Values(func([]float64) error { return nil }); err == nil {
		t.Error("the values of a file that has become shorter are read")
	}
}
