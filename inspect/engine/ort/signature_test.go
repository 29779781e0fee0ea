//go:build cgo

package ort

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
)

func TestReadSignature(t *testing.T) {
	m := graph{
		initializers: [][]byte{floats("w", make([]float32, 1000), 10, 100)},
		inputs: [][]byte{
			tensorInfo("x", elemFloat, []dim{"N", 3, 224, "W"}),
			tensorInfo("w", elemFloat, []dim{10, 100}),
			tensorInfo("open", elemBool, []dim{nil, 2}),
		},
		outputs: [][]byte{
			tensorInfo("scalar", elemInt64, []dim{}),
			tensorInfo("rank", elemUint8, nil),
			str(nil, 1, "bare"),
			tensorInfo("new", 99, []dim{1}),
		},
	}.model()
	inputs, outputs, err := readSignature(bytes.NewReader(m), int64(len(m)))
	if err != nil {
		t.Fatal(err)
	}
	wantIn := []value{
		{engine.Value{Name: "x", DType: "float", Shape: []int64{-1, 3, 224, -1}}, true, []string{"N", "", "", "W"}},
		{engine.Value{Name: "open", DType: "bool", Shape: []int64{-1, 2}}, true, []string{"", ""}},
	}
	wantOut := []value{
		{engine.Value{Name: "scalar", DType: "int64", Shape: []int64{}}, true, nil},
		{engine.Value{Name: "rank", DType: "uint8"}, true, nil},
		{engine.Value{Name: "bare"}, false, nil},
		{engine.Value{Name: "new", DType: "type99", Shape: []int64{1}}, true, []string{""}},
	}
	if !reflect.DeepEqual(inputs, wantIn) {
		t.Errorf("inputs\n%+v, want\n%+v", inputs, wantIn)
	}
	if !reflect.DeepEqual(outputs, wantOut) {
		t.Errorf("outputs\n%+v, want\n%+v", outputs, wantOut)
	}
}

// counter counts what is read.
type counter struct {
	r *bytes.Reader
	n int64
}

func (c *counter) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.r.ReadAt(p, at)
	c.n += int64(n)
	return n, err
}

func TestReadSignatureSkipsWeights(t *testing.T) {
	m := graph{
		initializers: [][]byte{floats("w", make([]float32, 1<<20), 1<<20)},
		inputs:       [][]byte{tensorInfo("x", elemFloat, nil)},
		outputs:      [][]byte{tensorInfo("y", elemFloat, nil)},
	}.model()
	c := &counter{r: bytes.NewReader(m)}
	if _, _, err := readSignature(c, int64(len(m))); err != nil {
		t.Fatal(err)
	}
	if c.n > 1000 {
		t.Errorf("read %d bytes of %d", c.n, len(m))
	}
}

func TestReadSignatureErrors(t *testing.T) {
	long := graph{inputs: [][]byte{tensorInfo(strings.Repeat("x", maxValueInfo), elemFloat, nil)}}.model()
	name := graph{initializers: [][]byte{str(nil, 8, strings.Repeat("x", maxName+1))}}.model()
	for want, b := range map[string][]byte{
		"holds no graph":             nil,
		"at most 1048576 are":        long,
		"at most 65536 are":          name,
		"claims 100 bytes":           {7<<3 | 2, 100, 0},
		"graph input or output":      msg(nil, 7, msg(nil, 11, []byte{1<<3 | 2, 50})),
		"byte 0: ":                   {0xff},
		"claims 9223372036854775807": {7<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		if _, _, err := readSignature(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzReadSignature(f *testing.F) {
	f.Add(reluModel())
	f.Add(identityModel(elemInt64))
	f.Add(slowModel(2, 3))
	f.Add(graph{
		initializers: [][]byte{floats("w", []float32{2, 3}, 2)},
		inputs:       [][]byte{tensorInfo("x", elemFloat, []dim{"N", nil}), tensorInfo("w", elemFloat, []dim{2})},
		outputs:      [][]byte{str(nil, 1, "z")},
	}.model())
	f.Add([]byte{7<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		inputs, outputs, err := readSignature(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		for _, v := range append(inputs, outputs...) {
			if len(v.params) != len(v.Shape) {
				t.Errorf("%d symbols for shape %v", len(v.params), v.Shape)
			}
			for _, d := range v.Shape {
				if d < -1 {
					t.Errorf("shape %v", v.Shape)
				}
			}
			_ = formatShape(v.Shape, v.params)
			_ = fmt.Sprint(v.fits(v.Shape))
		}
	})
}
