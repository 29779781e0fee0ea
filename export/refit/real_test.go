package refit

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestReal refits a model of one's own. FILTERLENS_REFIT_MODEL and
// FILTERLENS_REFIT_DATA name the model and its data; the others of these variables
// are optional.
func TestReal(t *testing.T) {
	file, data := os.Getenv("FILTERLENS_REFIT_MODEL"), os.Getenv("FILTERLENS_REFIT_DATA")
	if file == "" || data == "" {
		t.Skip("FILTERLENS_REFIT_MODEL and FILTERLENS_REFIT_DATA are not set")
	}
	number := func(name string, def float64) float64 {
		if v, err := strconv.ParseFloat(os.Getenv("FILTERLENS_REFIT_"+name), 64); err == nil {
			return v
		}
		return def
	}
	pre, err := dataset.ParsePreprocess(os.Getenv("FILTERLENS_REFIT_PREPROCESS"))
	if err != nil {
		t.Fatal(err)
	}
	eng, set, m := onnxRuntime(t, 0), openSet(t, data), open(t, file)
	fit, _, eval, err := set.Split(dataset.SplitOptions{Fit: number("FIT", 0.8), Eval: 1})
	if err != nil {
		t.Fatal(err)
	}
	index := eval.Index
	if n := int(number("EVAL", 1e9)); n < len(index) {
		index = index[:n]
	}
	layers := convolutions(m, int(number("FROM", 8)), int(number("TO", 13)))
	how := byMagnitude
	if os.Getenv("FILTERLENS_REFIT_CRITERION") == byChance {
		how = byChance
	}
	masked := diluted(t, m, layers, number("KEEP", 0.17), how)
	opt := Options{Preprocess: pre, Index: fit.Index, Lambda: number("LAMBDA", 0), Observations: int64(number("OBSERVATIONS", 0)), HoldOut: number("HOLDOUT", 0)}
	begin := time.Now()
	w, errs, err := Ridge(t.Context(), eng, m, masked, nil, set, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ridge on %d samples: %.1f s", len(fit.Index), time.Since(begin).Seconds())
	for _, e := range errs {
		t.Logf("%s %.4f -> %.4f, %d rows, %s %d %s", e.Layer, e.Before, e.After, e.Observations, e.Method, e.Iterations, e.Skipped)
	}
	sameMask(t, masked, w)
	refitted := rewritten(t, masked, w)
	models := []*inspect.Model{m, masked, refitted}
	if keep := number("CLASSIFIER", 0); keep > 0 {
		c, _, err := classifierSite(m, DefaultMemory)
		if err != nil {
			t.Fatal(err)
		}
		thin := diluted(t, refitted, []string{c.name}, keep, how)
		models = append(models, thin)
		for _, original := range []*inspect.Model{nil, m} {
			begin := time.Now()
			w, h, err := Head(t.Context(), eng, thin, set, opt, HeadOptions{Original: original})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("classifier: %.1f s, %+v", time.Since(begin).Seconds(), *h)
			models = append(models, rewritten(t, thin, w))
		}
	}
	t.Logf("original, masked, refitted, with its classifier diluted, trained, trained on the original's answers: %.4f", accuracy(t, eng, set, index, pre, models...))
}
