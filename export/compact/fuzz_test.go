package compact

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// FuzzCompact: whatever the file holds and whatever is asked for, planning and
// writing end with a model that passes its check, or with an error.
func FuzzCompact(f *testing.F) {
	for i, d := range drawings() {
		f.Add(d.net().bytes(f), uint64(i))
	}
	for seed := range uint64(20) {
		f.Add(randomNet(seed).bytes(f), seed)
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		file, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "fuzz.onnx")
		if err != nil {
			return
		}
		m, err := inspect.New(ctx, file, inspect.Options{})
		if err != nil {
			return
		}
		groups, err := Groups(ctx, m)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 2))
		opt := Options{Remove: map[string][]int{}, RoundTo: r.IntN(5)}
		for _, g := range groups {
			for _, k := range g.Makers {
				for c := range min(g.Size, 64) {
					if r.IntN(3) == 0 {
						opt.Remove[k.Layer] = append(opt.Remove[k.Layer], k.Filters(c)...)
					}
				}
			}
		}
		p, err := NewPlan(ctx, m, opt)
		if err != nil {
			if e := new(FilterError); errors.As(err, &e) {
				t.Fatalf("filters that Groups returned: %v", err)
			}
			return
		}
		if _, err := Mask(ctx, m, p); err != nil {
			t.Fatalf("Mask: %v", err)
		}
		d, err := Apply(ctx, m, p)
		if err != nil {
			t.Fatalf("Apply: %v", err)
		}
		out, err := d.Bytes()
		if err != nil {
			return // what the file claims cannot be read
		}
		w, err := onnxfile.Read(bytes.NewReader(out), int64(len(out)), "out.onnx")
		if err != nil {
			t.Fatalf("the written file: %v", err)
		}
		wm, err := inspect.New(ctx, w, inspect.Options{})
		if err != nil {
			t.Fatalf("the written file: %v", err)
		}
		if err := wm.Check(); err != nil {
			t.Fatalf("the written file: %v", err)
		}
	})
}
