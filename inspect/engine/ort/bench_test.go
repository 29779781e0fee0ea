//go:build cgo

package ort

import (
	"context"
	"fmt"
	"testing"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// BenchmarkRun compares Session.Run with the bare binding on a graph of one
// node, so that the difference is what this package costs.
func BenchmarkRun(b *testing.B) {
	e := open(b, Options{Threads: 1})
	model := reluModel()
	for _, rows := range []int64{1, 1 << 16} {
		x, y := make([]float32, 3*rows), make([]float32, 3*rows)
		name := func(way string) string { return fmt.Sprintf("%s/floats=%d", way, len(x)) }

		b.Run(name("binding"), func(b *testing.B) {
			s, err := ort.NewDynamicAdvancedSessionWithONNXData(model, []string{"x"}, []string{"y"}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Destroy()
			b.ReportAllocs()
			for b.Loop() {
				in, err := ort.NewTensor(ort.NewShape(rows, 3), x)
				if err != nil {
					b.Fatal(err)
				}
				out, err := ort.NewTensor(ort.NewShape(rows, 3), y)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Run([]ort.Value{in}, []ort.Value{out}); err != nil {
					b.Fatal(err)
				}
				in.Destroy()
				out.Destroy()
			}
		})
		s := load(b, e, model)
		run := func(ctx context.Context, out tensors, fresh bool) func(b *testing.B) {
			return func(b *testing.B) {
				in := tensors{"x": engine.NewFloat32(x, rows, 3)}
				b.ReportAllocs()
				for b.Loop() {
					if fresh {
						out["y"] = nil
					}
					if err := s.Run(ctx, in, out); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		mine := tensors{"y": engine.NewFloat32(y, rows, 3)}
		b.Run(name("inplace"), run(context.Background(), mine, false))
		b.Run(name("inplace-cancellable"), run(ctx, mine, false))
		b.Run(name("allocated"), run(context.Background(), tensors{}, true))
		cancel()
	}
}
