package onnxfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// FuzzRead gives whole files to the reader of the wire format: what it opens is
// what the official library decodes, and a draft writes it again.
func FuzzRead(f *testing.F) {
	f.Add(marshal(f, modelOf()))
	f.Add(marshal(f, small(3)))
	f.Add(marshal(f, small(5)))
	f.Add(field(7, field(5, field(9, bytes.Repeat([]byte{1}, fuzzLimit)), field(8, []byte("w")))))
	f.Add(nested(3))
	f.Add(field(7, field(5, field(payloadField, appendPayload(nil, 9, 0, 1<<40)))))
	f.Add(append(field(7), field(7)...))
	f.Add(field(7, field(5, protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 3))))
	for _, build := range hostile() {
		f.Add(build(60))
	}
	for _, odd := range oddModels() {
		f.Add(marshal(f, odd.m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkRead(t, b)
	})
}

// fuzzLimit leaves all payloads but the shortest in the file, so that small
// inputs, which are mutated best, meet the same code as large files.
const fuzzLimit = 4

var schemaCost = sync.OnceValues(messageCosts)

// checkRead compares what Read makes of b with the official library's view and
// returns both; nil for what either refuses.
func checkRead(t *testing.T, b []byte) (m *File, want *onnxpb.ModelProto) {
	t.Helper()
	m, err := readFile(bytes.NewReader(b), int64(len(b)), "m", fuzzLimit)
	if err != nil {
		var fe *FormatError
		if !errors.As(err, &fe) || strings.ContainsAny(err.Error(), "\n\u00a0") {
			t.Fatalf("error %T: %v", err, err)
		}
		return nil, nil
	}
	want = new(onnxpb.ModelProto)
	if err := proto.Unmarshal(b, want); err != nil {
		// Only numbers that were left in the file may be malformed; reading them
		// is an error.
		bad := false
		eachTensor(m.Model, func(x *onnxpb.TensorProto) {
			for _, p := range x.FilterlensPayload {
				bad = bad || p.GetField() != rawField
			}
		})
		if !bad {
			t.Fatalf("opens although it is no protobuf message: %v", err)
		}
		return m, nil
	}
	costs, err := schemaCost()
	if err != nil {
		t.Fatal(err)
	}
	c := coster{limit: math.MaxInt64}
	if err := c.add(b, costs[kindModel.message()], 0); err != nil && err != errTooDeep || c.used > maxAmplification*int64(len(b)+2) {
		t.Fatalf("cost %d of %d bytes, %v", c.used, len(b), err)
	}
	if !proto.Equal(restore(t, m.Model, b), want) {
		t.Fatal("skeleton and payloads are not the model")
	}
	out, err := m.Draft().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(out), int64(len(out)), "again"); err != nil {
		t.Fatal(err)
	}
	again := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(out, again); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(again, want) {
		t.Fatal("an unchanged draft is another model")
	}
	return m, want
}

// small has a tensor of n bytes at the places where everywhere has many.
func small(n int) *onnxpb.ModelProto {
	x := tensorOf("w", onnxpb.TensorProto_UINT8, int64(n))
	x.RawData = make([]byte, n)
	sparse := &onnxpb.SparseTensorProto{Values: x, Indices: x}
	g := &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{x}, SparseInitializer: []*onnxpb.SparseTensorProto{sparse}}
	attribute := &onnxpb.AttributeProto{T: x, Tensors: []*onnxpb.TensorProto{x}, G: g, SparseTensor: sparse, SparseTensors: []*onnxpb.SparseTensorProto{sparse}}
	node := &onnxpb.NodeProto{OpType: proto.String("If"), Attribute: []*onnxpb.AttributeProto{attribute}}
	return &onnxpb.ModelProto{
		Graph:        &onnxpb.GraphProto{Node: []*onnxpb.NodeProto{node}},
		TrainingInfo: []*onnxpb.TrainingInfoProto{{Algorithm: g}},
		Functions:    []*onnxpb.FunctionProto{{Node: []*onnxpb.NodeProto{node}}},
	}
}

// FuzzSkeleton changes a skeleton before it is written: payloads stay with
// their tensors, whatever is around them.
func FuzzSkeleton(f *testing.F) {
	f.Add(marshal(f, small(3)), uint64(1))
	f.Add(marshal(f, small(5)), uint64(2))
	for i, odd := range oddModels() {
		f.Add(marshal(f, odd.m), uint64(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		m, err := readFile(bytes.NewReader(b), int64(len(b)), "m", fuzzLimit)
		if err != nil {
			return
		}
		want := new(onnxpb.ModelProto)
		if err := proto.Unmarshal(b, want); err != nil {
			return
		}
		// The same change to the skeleton and to the whole model.
		change := func(m *onnxpb.ModelProto) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			g := m.Graph
			rnd.Shuffle(len(g.Initializer), func(i, j int) { g.Initializer[i], g.Initializer[j] = g.Initializer[j], g.Initializer[i] })
			rnd.Shuffle(len(g.Node), func(i, j int) { g.Node[i], g.Node[j] = g.Node[j], g.Node[i] })
			g.Initializer = g.Initializer[:rnd.IntN(len(g.Initializer)+1)]
			g.Node = g.Node[:rnd.IntN(len(g.Node)+1)]
			eachTensor(m, func(x *onnxpb.TensorProto) { x.Name = proto.String(strings.Repeat("n", rnd.IntN(200))) })
			m.ProducerName = proto.String("test")
		}
		d := m.Draft()
		change(d.Model)
		change(want)
		out, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got := new(onnxpb.ModelProto)
		if err := proto.Unmarshal(out, got); err != nil || !proto.Equal(got, want) {
			t.Fatalf("the changed draft is another model, %v", err)
		}
		if n, err := d.Size(); err != nil || n != int64(len(out)) {
			t.Errorf("%d bytes written, announced %d, %v", len(out), n, err)
		}
	})
}

// FuzzAttribute gives a node's fields to everything that reads attributes: all
// tensors in them are found, and their numbers are the same whether they were
// left in the file or not.
func FuzzAttribute(f *testing.F) {
	f.Add(marshal(f, small(5).Graph.Node[0]))
	f.Add(field(5, field(1, []byte("ref")), field(21, []byte("outer")), []byte{20<<3 | 0x80, 1, 4}))
	f.Add(field(5, []byte{2<<3 | 5, 0, 0, 128, 63, 3 << 3, 7}, field(4, []byte("s")), field(7, make([]byte, 8)), field(8, []byte{1, 2}), field(9, []byte("a"))))
	f.Add(field(5, field(14, field(1, []byte{8, 1})), field(15, field(4, field(1)))))
	for d := range readable {
		_, raw, typed := sample(f, rand.New(rand.NewPCG(13, 14)), d, 5)
		x := tensorOf("raw", d, 5)
		x.RawData = raw
		f.Add(field(5, field(5, marshal(f, x)), field(10, marshal(f, typed)), field(22, field(1, marshal(f, x)), field(2, marshal(f, typed)))))
	}
	f.Add(field(5, field(5, marshal(f, external(tensorOf("e", onnxpb.TensorProto_FLOAT, 2), "w.bin", 0, 8)))))
	f.Add(field(5, field(6, field(1, field(5, field(11, field(5, marshal(f, tensorOf("deep", onnxpb.TensorProto_FLOAT, 0)))))))))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, whole := checkRead(t, field(7, field(1, b)))
		if whole == nil {
			return
		}
		var left, all []*onnxpb.TensorProto
		eachTensor(m.Model, func(x *onnxpb.TensorProto) { left = append(left, x) })
		inMemory := &File{Name: "m", Model: whole}
		eachTensor(whole, func(x *onnxpb.TensorProto) { all = append(all, x) })
		if n := countTensors(whole.ProtoReflect()); n != len(all) || n != len(left) {
			t.Fatalf("%d tensors of %d found, %d in the skeleton", len(all), n, len(left))
		}
		for i := range left {
			checkTensor(t, m.Tensor(left[i]), inMemory.Tensor(all[i]), int64(len(b)))
		}
		if _, err := m.Layout(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// countTensors is eachTensor the slow way, by the schema.
func countTensors(m protoreflect.Message) int {
	if m.Descriptor().Name() == "TensorProto" {
		return 1
	}
	n := 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				n += countTensors(v.List().Get(i).Message())
			}
		default:
			n += countTensors(v.Message())
		}
		return true
	})
	return n
}

// checkTensor compares the ways to read a tensor x, and x with y, the same one
// decoded by the official library, both out of size bytes.
func checkTensor(t *testing.T, x, y Tensor, size int64) {
	t.Helper()
	if x.StoredBytes() != y.StoredBytes() && !slices.ContainsFunc(x.p.FilterlensPayload, func(p *onnxpb.Payload) bool {
		return p.GetField() == int32Field || p.GetField() == int64Field || p.GetField() == uint64Field // may be longer than need be
	}) {
		t.Errorf("%d bytes stored, in memory %d", x.StoredBytes(), y.StoredBytes())
	}
	read := func(x Tensor) (out []float64, err error) {
		err = x.Values(func(b []float64) error { out = append(out, b...); return nil })
		return
	}
	a, err := read(x)
	b, memErr := read(y)
	if (err == nil) != (memErr == nil) || err == nil && !sameFloats(a, b) {
		t.Errorf("%v, %v; in memory %v, %v", a, err, b, memErr)
	}
	n, countErr := x.Elements()
	if err == nil && (countErr != nil || int64(len(a)) != n) {
		t.Errorf("%d values, %v has %d (%v)", len(a), x.Dims(), n, countErr)
	}
	if int64(len(a)) > 4*size { // four of two bits in a byte
		t.Errorf("%d values from %d bytes", len(a), size)
	}
	hash, hashErr := x.Hash(t.Context())
	memHash, memErr := y.Hash(t.Context())
	if (hashErr == nil) != (memErr == nil) || hash != memHash || err == nil && hashErr != nil {
		t.Errorf("hash %x, %v; in memory %x, %v", hash, hashErr, memHash, memErr)
	}
	if same, err := SameData(x, y); hashErr == nil && (!same || err != nil) {
		t.Errorf("not the same data: %v", err)
	}
	c, rawErr := x.Raw(nil)
	if err == nil && rawErr != nil {
		t.Errorf("values can be read, raw data not: %v", rawErr)
	}
	if rawErr == nil {
		if k, e := c.WriteTo(io.Discard); err == nil && (e != nil || k != c.Len()) {
			t.Errorf("Raw: %d of %d bytes, %v", k, c.Len(), e)
		}
	}
	ints, intErr := x.Int64s(1 << 20)
	if intErr == nil {
		for i, v := range ints {
			if err != nil || float64(v) != a[i] {
				t.Fatalf("int64 %v, values %v, %v", ints, a, err)
			}
		}
	}
	if err != nil || n == 0 {
		return
	}
	from := n / 3
	var part []float64
	err = x.ValuesIn(from, n, func(b []float64) error { part = append(part, b...); return nil })
	if !errors.Is(err, ErrSequential) && (err != nil || !sameFloats(part, a[from:])) {
		t.Errorf("elements from %d on: %v, %v, want %v", from, part, err, a[from:])
	}
	single, err := x.Float32s(math.MaxInt64)
	if err != nil || !sameFloats(double(single), double(narrow(a))) {
		t.Errorf("as float32 %v, %v, want %v", single, err, a)
	}
}

// FuzzTensorValues gives a tensor's fields to everything that reads numbers.
func FuzzTensorValues(f *testing.F) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for d := range readable {
		_, raw, typed := sample(f, rnd, d, 9)
		x := tensorOf("raw", d, 9)
		x.RawData = raw
		f.Add(marshal(f, x))
		f.Add(marshal(f, typed))
	}
	f.Add(append(marshal(f, tensorOf("w", onnxpb.TensorProto_INT64, 3)), field(int64Field, bytes.Repeat([]byte{0xff}, 12))...))
	f.Fuzz(func(t *testing.T, tensor []byte) {
		m, whole := checkRead(t, field(7, field(5, tensor)))
		switch {
		case m == nil:
		case whole == nil:
			if err := m.Tensor(m.Model.Graph.Initializer[0]).Values(func([]float64) error { return nil }); err == nil {
				t.Error("the values can be read although they are malformed")
			}
		default:
			checkTensor(t, m.Tensor(m.Model.Graph.Initializer[0]), (&File{Name: "m", Model: whole}).Tensor(whole.Graph.Initializer[0]), int64(len(tensor)))
		}
	})
}

// FuzzExternalData: whatever a model and a link beside it say about external
// data, nothing but what lies in the model's folders is read and nothing waits.
func FuzzExternalData(f *testing.F) {
	for _, location := range []string{"w.bin", "../secret", "/etc/passwd", "link", "sub", "fifo", "sub/../w.bin", ".", "", "a/../../secret", "w.bin/", "updir/secret", `sub\w.bin`, "hard"} {
		f.Add(location, "0", "8", int64(2), "w.bin")
		f.Add(location, "", "", int64(2), "../secret")
	}
	for _, target := range []string{"../../blobs/H2", "../../blobs/../secret", "../../secret", "w.bin", "link", "..", "/etc/passwd", "../../blobs/out", "../../blobs"} {
		f.Add("link", "0", "8", int64(8), target)
		f.Add("link/secret", "0", "8", int64(8), target)
	}
	f.Add("w.bin", "9223372036854775807", "1", int64(1), "")
	f.Add("w.bin", "4", "9223372036854775807", int64(1<<60), "")
	f.Add("w.bin", "-4", "-1", int64(-1), "")

	// The same files around a model that is a file and one that is a link into
	// the folder blobs. What may be read is the model and files of one byte, 7.
	root := f.TempDir()
	inside, secret := bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte("secret"), 4)
	model := marshal(f, modelOf())
	var models []*File
	for _, name := range []string{"file", "cache"} {
		hub := filepath.Join(root, name)
		dir := filepath.Join(hub, "snapshots", "rev")
		blobs := filepath.Join(hub, "blobs")
		for _, d := range []string{filepath.Join(dir, "sub"), blobs, filepath.Join(blobs, "sub")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				f.Fatal(err)
			}
		}
		for _, p := range []string{filepath.Join(dir, "w.bin"), filepath.Join(dir, "sub", "w.bin")} {
			write(f, p, inside)
		}
		for _, d := range []string{root, hub, filepath.Dir(dir), filepath.Join(blobs, "sub")} {
			write(f, filepath.Join(d, "secret"), secret)
		}
		blob, m := filepath.Join(blobs, "H1"), filepath.Join(dir, "m.onnx")
		links := map[string]string{filepath.Join(dir, "updir"): "..", filepath.Join(blobs, "out"): "../secret"}
		if name == "cache" {
			write(f, blob, model)
			write(f, filepath.Join(blobs, "H2"), inside)
			links[m] = "../../blobs/H1"
		} else {
			write(f, m, model)
			write(f, filepath.Join(blobs, "H2"), secret)
		}
		for link, to := range links {
			if err := os.Symlink(to, link); err != nil {
				f.Skip(err)
			}
		}
		if err := os.Link(filepath.Join(root, "secret"), filepath.Join(dir, "hard")); err != nil {
			f.Skip(err)
		}
		mkfifo(f, filepath.Join(dir, "fifo"))
		models = append(models, openAt(f, m))
	}
	f.Fuzz(func(t *testing.T, location, offset, length string, n int64, target string) {
		x := tensorOf("w", onnxpb.TensorProto_UINT8, n)
		x.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
		x.ExternalData = entries("location", location)
		if offset != "" {
			x.ExternalData = append(x.ExternalData, entries("offset", offset)...)
		}
		if length != "" {
			x.ExternalData = append(x.ExternalData, entries("length", length)...)
		}
		for _, m := range models {
			link := filepath.Join(filepath.Dir(m.Name), "link")
			os.Remove(link)
			if target != "" {
				_ = os.Symlink(target, link) // not every string can be one
			}
			tensor := m.Tensor(x)
			tensor.StoredBytes()
			var got []byte
			err := tensor.Values(func(block []float64) error {
				for _, v := range block {
					got = append(got, byte(v))
				}
				return nil
			})
			if bytes.Count(got, []byte{7}) != len(got) && !bytes.Contains(model, got) {
				t.Errorf("location %q, link to %q: %q was read", location, target, got)
			}
			var te *TensorError
			if err != nil && !errors.As(err, &te) {
				t.Errorf("error %T: %v", err, err)
			}
			if err == nil && int64(len(got)) != n {
				t.Errorf("%d of %d values", len(got), n)
			}
			l, err := (&File{Name: m.Name, Model: modelOf(x), folders: m.folders}).Layout(t.Context())
			if err != nil || len(l.Extents) != 1 || len(got) > 0 && l.Data[0].Err != nil {
				t.Errorf("layout %v, %v", l, err)
			}
		}
	})
}
