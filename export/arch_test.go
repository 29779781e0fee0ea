package export

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// patches writes a folder of images for each class: noise around a colour of its own.
func patches(t testing.TB, perClass, side int) *dataset.Set {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(8, 1))
	for c := range classes {
		folder := filepath.Join(dir, string(rune('a'+c)))
		if err := os.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		for i := range perClass {
			m := image.NewRGBA(image.Rect(0, 0, side, side))
			for p := range side * side {
				level := func(bit int) uint8 { return uint8(60*(c>>bit&1) + 40 + r.IntN(120)) }
				m.SetRGBA(p%side, p/side, color.RGBA{level(0), level(1), level(2), 255})
			}
			f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, m); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	set, err := dataset.Open(dir, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// drawn writes a small instance of an architecture and opens it.
func drawn(t testing.TB, build func(arch.Options) (*onnxfile.Draft, error), opt arch.Options) *inspect.Model {
	t.Helper()
	opt.Classes = classes
	d, err := build(opt)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := arch.Write(path, d); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// TestArchitectures prunes small instances of published networks, whose weights are
// drawn, by connections and by filters, and recovers and compacts them.
func TestArchitectures(t *testing.T) {
	eng, set := runtime(t), patches(t, 12, 32)
	small := arch.Options{Size: 32, Width: 0.25, Depth: 0.1, Seed: 3, Vary: true}
	narrow := small
	narrow.Width = 0.125
	const image, depthwise = "it reads the image, whose channels have no labels", "depthwise: each filter reads one channel, there are no pairs to drop"
	for _, c := range []struct {
		name    string
		build   func(arch.Options) (*onnxfile.Draft, error)
		opt     arch.Options
		recover []string
		// most is the share of multiply-accumulates that half of the filters may leave.
		most float64
		// blocked are the reasons for which connections stay.
		blocked []string
	}{
		// What the gates make of drawn weights hardly varies from image to image, which
		// cannot be refitted. Trained ones are in TestPruneFixtures.
		{"EfficientNet-B0", arch.EfficientNetB0, small, []string{RecoverNone}, 0.55, []string{image, depthwise, "squeeze-excite gate: it scales filters and hands none on"}},
		{"MobileNetV2", arch.MobileNetV2, small, nil, 0.6, []string{image, depthwise}},
		{"SqueezeNet", arch.SqueezeNet, small, nil, 0.5, []string{image, "its outputs are not filters that a later layer reads"}},
		{"ResNet-18", arch.ResNet18, narrow, nil, 0.8, []string{image}},
		{"DenseNet-121", arch.DenseNet121, small, nil, 0.55, []string{image}},
	} {
		for _, fold := range []bool{false, true} {
			if fold && c.name == "SqueezeNet" {
				continue // it has nothing to fold
			}
			o := c.opt
			o.Fold = fold
			m := drawn(t, c.build, o)
			for how, plan := range map[string]PlanOptions{
				"connections": {Target: Both, Criterion: Magnitude, Dilution: 0.5},
				"filters":     {Target: Conv, Criterion: Magnitude, FiltersKeep: 0.5, RoundTo: 8},
			} {
				t.Run(fmt.Sprintf("%s, folded %v, %s", c.name, fold, how), func(t *testing.T) {
					plan.Recover = c.recover
					opt := Options{PlanOptions: plan, Set: set, Probe: probe.Options{Split: dataset.SplitOptions{Seed: 1}}}
					opt.Refit.Observations = 1 // the least number of rows
					var res *probe.Result
					if plan.Dilution > 0 {
						res = statistics(t, m)
					}
					out := filepath.Join(t.TempDir(), "out.onnx")
					r, err := Prune(t.Context(), eng, m, res, out, nil, opt)
					if err != nil {
						t.Fatal(err)
					}
					for _, check := range r.Checks {
						if !check.OK {
							t.Errorf("%+v", check)
						}
					}
					for _, s := range r.Steps {
						if s.Skipped != "" {
							t.Errorf("step %s was left out: %s", s.Name, s.Skipped)
						}
					}
					if r.Compaction == nil || r.Compaction.Real == nil || r.Compaction.Noise == nil {
						t.Fatalf("compaction %+v", r.Compaction)
					}
					if len(r.Compaction.Barriers) > 0 || len(r.Compaction.Refused) > 0 {
						t.Errorf("barriers %+v, refused %+v", r.Compaction.Barriers, r.Compaction.Refused)
					}
					if c.recover == nil && len(r.Steps) != 4 {
						t.Errorf("steps %+v", r.Steps)
					}
					t.Logf("%d of %d channels, MACs %d to %d, outputs differ by %.2g on samples, %.2g on noise", r.Compaction.Removed, r.Compaction.Channels,
						*r.Before.MACs, *r.After.MACs, r.Compaction.Real.Relative, r.Compaction.Noise.Relative)
					if how == "filters" {
						if len(r.Plan.Filters) == 0 || float64(*r.After.MACs) > c.most*float64(*r.Before.MACs) {
							t.Errorf("MACs %d to %d", *r.Before.MACs, *r.After.MACs)
						}
						for _, f := range r.Plan.Filters {
							if f.Kept%8 != 0 && f.Kept != f.Size {
								t.Errorf("%d of %d filters of %s stay", f.Kept, f.Size, f.Layer)
							}
						}
						return
					}
					if r.Plan.Dropped*2 < r.Plan.Elements || r.NewZeros == 0 {
						t.Errorf("%d of %d weights fell, %d are newly zero", r.Plan.Dropped, r.Plan.Elements, r.NewZeros)
					}
					var blocked []string
					for _, b := range r.Plan.Blocked {
						if !slices.Contains(blocked, b.Reason) {
							blocked = append(blocked, b.Reason)
						}
					}
					if slices.Sort(blocked); !slices.Equal(blocked, slices.Sorted(slices.Values(c.blocked))) {
						t.Errorf("blocked: %q", blocked)
					}
				})
			}
		}
	}
}
