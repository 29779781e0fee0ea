package onnxfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Fields that take far more memory than bytes in the file, as a graph's, a
// node's or an attribute's content.
func hostile() map[string]func(n int) []byte {
	rep := func(b []byte, n int) []byte { return bytes.Repeat(b, n/len(b)) }
	graph := func(b []byte) []byte { return field(7, b) }
	node := func(b []byte) []byte { return graph(field(1, b)) }
	attribute := func(b []byte) []byte { return node(field(5, b)) }
	return map[string]func(n int) []byte{
		"nodes":          func(n int) []byte { return graph(rep(field(1), n)) },
		"tensors":        func(n int) []byte { return graph(rep(field(5), n)) },
		"inputs":         func(n int) []byte { return graph(rep(field(11), n)) },
		"typed inputs":   func(n int) []byte { return graph(rep(field(11, field(2, field(1, field(2, field(1))))), n)) },
		"attributes":     func(n int) []byte { return node(rep(field(5), n)) },
		"with tensors":   func(n int) []byte { return node(rep(field(5, field(5)), n)) },
		"with subgraphs": func(n int) []byte { return node(rep(field(5, field(6)), n)) },
		"names":          func(n int) []byte { return node(rep(field(1), n)) },
		"strings":        func(n int) []byte { return attribute(rep(field(9), n)) },
		"ints":           func(n int) []byte { return attribute(rep([]byte{8 << 3, 1}, n)) },
		"packed ints":    func(n int) []byte { return attribute(field(8, make([]byte, n))) },
		"properties":     func(n int) []byte { return append(graph(nil), rep(field(14), n)...) },
		"functions":      func(n int) []byte { return append(graph(nil), rep([]byte{0xca, 1, 0}, n)...) },
		"unknown":        func(n int) []byte { return graph(rep([]byte{0x98, 0x3f, 1}, n)) },
		"choices": func(n int) []byte {
			return graph(field(11, field(2, field(1, field(2, rep(field(1, []byte{8, 1}), n))))))
		},
	}
}

// The estimate must not be below what decoding takes, or the limit is none.
func TestCostIsAtLeastTheMemory(t *testing.T) {
	all, err := messageCosts()
	if err != nil {
		t.Fatal(err)
	}
	for name, build := range hostile() {
		b := build(1 << 17)
		c := coster{limit: math.MaxInt64}
		if err := c.add(b, all[kindModel.message()], 0); err != nil {
			t.Fatal(err)
		}
		before := heap()
		m := new(onnxpb.ModelProto)
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		taken := heap() - before
		runtime.KeepAlive(m)
		t.Logf("%-14s %d bytes: %.1f times in memory, estimated %.1f", name, len(b), float64(taken)/float64(len(b)), float64(c.used)/float64(len(b)))
		if taken > c.used+1<<16 {
			t.Errorf("%s: %d bytes take %d, estimated %d", name, len(b), taken, c.used)
		}
		if c.used > maxAmplification*int64(len(b)) {
			t.Errorf("%s: %d bytes are estimated at %d, more than %d times", name, len(b), c.used, maxAmplification)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestHostileSkeletonsAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	const size = 1 << 20
	for name, build := range hostile() {
		b := build(size)
		live := heap()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := Read(bytes.NewReader(b), int64(len(b)), "m.onnx")
		runtime.ReadMemStats(&after)
		if taken := int64(after.TotalAlloc - before.TotalAlloc); err != nil && taken > 8*size {
			t.Errorf("%s: %d bytes are refused after %d were allocated", name, len(b), taken)
		}
		if taken := heap() - live; err == nil && taken > freeMemory {
			t.Errorf("%s: %d bytes take %d", name, len(b), taken)
		}
		runtime.KeepAlive(f)
		var fe *FormatError
		if err != nil && (!errors.As(err, &fe) || !strings.Contains(err.Error(), "empty messages")) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "nodes" || name == "attributes" || name == "functions" {
			if err == nil {
				t.Errorf("%s: not refused", name)
			}
		}
	}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	*bytes.Reader
	n int64
}

func (r *countingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(b, off)
	r.n += int64(n)
	return n, err
}

// A file that is far beyond the limit is refused before the walk is through.
func TestHostileSkeletonsAreNotReadToTheEnd(t *testing.T) {
	const size = 16 << 20
	for _, name := range []string{"nodes", "tensors", "attributes", "functions"} {
		b := hostile()[name](size)
		r := &countingReader{Reader: bytes.NewReader(b)}
		if _, err := Read(r, int64(len(b)), "m.onnx"); err == nil || !strings.Contains(err.Error(), "empty messages") {
			t.Errorf("%s: %v", name, err)
		}
		if r.n > size/2 {
			t.Errorf("%s: %d of %d bytes were read", name, r.n, len(b))
		}
	}
}

// Every kind that the walk enters has a message in the schema.
func TestKindsAreMessages(t *testing.T) {
	all, err := messageCosts()
	if err != nil {
		t.Fatal(err)
	}
	for k := kindModel; int(k) < len(kindNames); k++ {
		if all[k.message()] == nil {
			t.Errorf("%s: no %s", kindNames[k], k.message())
		}
	}
}

// A large model of ordinary nodes, with names as short as they get.
func TestManyNodesAreRead(t *testing.T) {
	const n = 40_000
	m := modelOf()
	for i := range n {
		m.Graph.Node = append(m.Graph.Node, &onnxpb.NodeProto{
			OpType: proto.String("Softmax"), Input: []string{fmt.Sprint(i)}, Output: []string{fmt.Sprint(i + 1)},
			Attribute: []*onnxpb.AttributeProto{{Name: proto.String("axis"), I: proto.Int64(1), Type: onnxpb.AttributeProto_INT.Enum()}},
		})
	}
	b := marshal(t, m)
	if f := read(t, b); len(f.Model.Graph.Node) != n {
		t.Errorf("%d nodes", len(f.Model.Graph.Node))
	}
	if int64(len(b)) < freeMemory/maxAmplification {
		t.Error("too small to be looked at")
	}
}

func TestDeepTypesAreRefused(t *testing.T) {
	var b []byte
	for range 2 * maxDepth {
		b = field(4, field(1, b))
	}
	pad := field(10, make([]byte, freeMemory/maxAmplification))
	whole := field(7, pad, field(11, field(2, b)))
	if _, err := Read(bytes.NewReader(whole), int64(len(whole)), "m.onnx"); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Error(err)
	}
}
