package export

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestReal removes filters of a model of one's own. FILTERLENS_PRUNE_MODEL and
// FILTERLENS_PRUNE_DATA name the model and its data; the others of these variables are
// optional.
func TestReal(t *testing.T) {
	env := func(name, def string) string {
		if v := os.Getenv("FILTERLENS_PRUNE_" + name); v != "" {
			return v
		}
		return def
	}
	number := func(name string) float64 {
		v, err := strconv.ParseFloat(env(name, "0"), 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	file, data := env("MODEL", ""), env("DATA", "")
	if file == "" || data == "" {
		t.Skip("FILTERLENS_PRUNE_MODEL and FILTERLENS_PRUNE_DATA are not set")
	}
	pre, err := dataset.ParsePreprocess(env("PREPROCESS", "unit"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Open(data, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	eng, m := runtime(t), open(t, file)
	opt := Options{Set: set, Probe: probe.Options{Preprocess: pre, Split: dataset.SplitOptions{Limit: int(number("LIMIT"))}},
		PlanOptions: PlanOptions{Target: Conv, Criterion: env("CRITERION", Magnitude), FiltersKeep: number("KEEP"), RoundTo: int(number("ROUND")),
			Recover: strings.Split(env("RECOVER", RecoverNone), ",")},
		TargetMACs: number("MACS"), TargetLatency: number("LATENCY")}
	begin := time.Now()
	r, err := Prune(t.Context(), eng, m, nil, filepath.Join(t.TempDir(), "out.onnx"), nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s", time.Since(begin).Seconds())
	for _, c := range r.Checks {
		t.Logf("%+v", c)
	}
	for _, s := range r.Steps {
		t.Logf("%s: %.1f s, top-1 %.4f", s.Name, s.Seconds, s.Evaluation.Top1)
	}
	if r.Search != nil {
		for _, s := range r.Search.Sensitivities {
			t.Logf("%+v", s)
		}
	}
	t.Logf("top-1 %.4f to %.4f; %d to %d bytes, %d to %d parameters, %d to %d multiply-accumulates, %+v to %+v", r.Before.Evaluation.Top1, r.After.Evaluation.Top1,
		r.Before.Bytes, r.After.Bytes, r.Before.Parameters, r.After.Parameters, *r.Before.MACs, *r.After.MACs, *r.Before.Latency, *r.After.Latency)
}
