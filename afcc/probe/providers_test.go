package probe

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// TestProvidersAgree measures the fixtures on the CPU and on the provider that
// FILTERLENS_TEST_EP names, without it on the CPU again in other batches, whose
// sums are rounded otherwise. Of label means that differ by rounding and the same
// heads only clusters may differ whose fields are that close to the threshold. It
// logs how many do, and how many when each side trains heads of its own.
func TestProvidersAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("measures two models twice")
	}
	other := runtime(t)
	cpu, err := ort.Open(t.Context(), ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cpu.Close() })
	for _, name := range []string{"vgg16-glyphs20.onnx", "efficientnet-b0-glyphs20.onnx"} {
		t.Run(name, func(t *testing.T) {
			f, err := onnxfile.Open(filepath.Join("..", "..", "fixtures", name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m, err := inspect.New(t.Context(), f, inspect.Options{})
			if err != nil {
				t.Fatal(err)
			}
			set := openSet(t, filepath.Join("..", "..", "fixtures", "glyphs20"))
			measure := func(eng engine.Engine, batch int) (*Result, []Fields) {
				var fields []Fields
				opt := Options{Theta: afcc.DefaultTheta, Recipe: DefaultRecipe(), Batch: batch,
					Each: func(_ *Layer, f Fields) error {
						f.W, f.Means = slices.Clone(f.W), slices.Clone(f.Means)
						fields = append(fields, f)
						return nil
					}}
				opt.Recipe.Epochs = 3
				opt.Split.Seed = 1
				opt.Preprocess.Mean, opt.Preprocess.Std = []float32{0.5}, []float32{0.5}
				res, err := Measure(t.Context(), eng, m, set, opt)
				if err != nil {
					t.Fatal(err)
				}
				return res, fields
			}
			a, fieldsA := measure(cpu, 100)
			batch := 100
			if os.Getenv("FILTERLENS_TEST_EP") == "" {
				batch = 7
			}
			b, fieldsB := measure(other, batch)
			if len(a.Layers) == 0 || len(a.Layers) != len(b.Layers) || len(fieldsA) != len(a.Layers) || len(fieldsB) != len(b.Layers) {
				t.Fatalf("%d and %d layers, %d and %d with fields", len(a.Layers), len(b.Layers), len(fieldsA), len(fieldsB))
			}
			own, err := Compare(a, b)
			if err != nil {
				t.Fatal(err)
			}
			logDifferences(t, "heads of its own", own)

			// The same heads: clusters of the first result's heads and the second's means.
			same := *b
			same.Layers = slices.Clone(b.Layers)
			apart := 0.0
			for i, x := range fieldsA {
				apart = max(apart, meansAgree(t, a.Layers[i].Name(), x.Means, fieldsB[i].Means))
				x.Means = fieldsB[i].Means
				if same.Layers[i].Filters, err = afcc.AnalyzeLayer(t.Context(), x.W, x.Means, x.K, x.F, x.P, afcc.Options{Theta: a.Theta}); err != nil {
					t.Fatal(err)
				}
			}
			d, err := Compare(a, &same)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("label means differ by at most %.2g of their layer's largest", apart)
			logDifferences(t, "the same heads", d)
			for i, l := range d.Layers {
				for _, differ := range l.Differ {
					moved := fieldsA[i]
					moved.Means = fieldsB[i].Means
					onlyRounding(t, l.Layer, differ, fieldsA[i].Matrix(nil, differ.Filter), moved.Matrix(nil, differ.Filter), float32(a.Theta))
				}
			}
		})
	}
}

func logDifferences(t *testing.T, what string, d *Differences) {
	t.Helper()
	var all LayerDifferences
	for _, l := range d.Layers {
		all.Filters, all.LabelSets, all.Clusters = all.Filters+l.Filters, all.LabelSets+l.LabelSets, all.Clusters+l.Clusters
		all.Gained, all.Lost = all.Gained+l.Gained, all.Lost+l.Lost
		if l.Clusters > 0 {
			furthest := math.NaN()
			if l.Furthest != nil {
				furthest = *l.Furthest
			}
			t.Logf("%s, layer %s: of %d filters %d with other label sets (%d labels gained, %d lost, at most %.2g from the threshold), %d with other clusters",
				what, l.Layer, l.Filters, l.LabelSets, l.Gained, l.Lost, furthest, l.Clusters)
		}
	}
	t.Logf("%s: of %d filters %d with other label sets, %d with other clusters; %d labels gained, %d lost", what, all.Filters, all.LabelSets, all.Clusters, all.Gained, all.Lost)
}

// meansAgree checks that label means differ by rounding only, by 1e-4 of the
// largest, and returns by how much they do.
func meansAgree(t *testing.T, layer string, a, b []float32) float64 {
	t.Helper()
	var largest, furthest float64
	for i := range a {
		largest = max(largest, math.Abs(float64(a[i])))
		furthest = max(furthest, math.Abs(float64(a[i])-float64(b[i])))
	}
	if !(furthest <= 1e-4*largest) {
		t.Errorf("layer %s: label means differ by %v, the largest is %v", layer, furthest, largest)
	}
	if largest == 0 {
		return 0
	}
	return furthest / largest
}

// onlyRounding checks that the fields of a filter lie on the same side of the
// threshold in both of its field matrices, but for those within a thousandth of
// it, and that there are such fields.
func onlyRounding(t *testing.T, layer string, d FilterDifference, a, b []float32, theta float32) {
	t.Helper()
	const tolerance = 1e-3
	largestA, largestB := slices.Max(a), slices.Max(b)
	crossed := 0
	for i := range a {
		x, y := a[i]/largestA, b[i]/largestB
		if (x > theta) == (y > theta) {
			continue
		}
		crossed++
		if far := max(math.Abs(float64(x-theta)), math.Abs(float64(y-theta))); !(far <= tolerance) {
			t.Errorf("layer %s, filter %d: field %d is %v and %v of the largest, on both sides of the threshold and not by rounding", layer, d.Filter, i, x, y)
		}
	}
	if crossed == 0 {
		t.Errorf("layer %s, filter %d: its clusters differ, but no field does", layer, d.Filter)
	}
}
