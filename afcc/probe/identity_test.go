package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe/state"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// TestAnswers changes what a measurement depends on, each thing alone, and what it
// does not depend on.
func TestAnswers(t *testing.T) {
	eng, m := runtime(t), small(t, testK)
	data := imageFolder(t, testK, 14)
	opt := testOptions()
	opt.Thetas, opt.Top, opt.Stability = []float64{0.5, 0.1, 0.5}, 2, 2
	res, err := Measure(t.Context(), eng, m, openSet(t, data), opt)
	if err != nil {
		t.Fatal(err)
	}
	// As it comes back from a file.
	file, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadResult(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	other := small(t, testK)
	if err := os.WriteFile(other.File, append(must(os.ReadFile(other.File)), 0xa2, 0x06, 0), 0o666); err != nil { // an unknown field
		t.Fatal(err)
	}
	changed := imageFolder(t, testK, 14)
	set := openSet(t, changed)
	_, stats, _, err := set.Split(opt.Split)
	if err != nil {
		t.Fatal(err)
	}
	samples{t, changed, set}.copy(stats.Index[0], stats.Index[1])
	for _, c := range []struct {
		name   string
		change func(o *Options)
		say    string // "" when r still answers
	}{
		{"nothing", func(*Options) {}, ""},
		{"memory", func(o *Options) { o.Memory = 64 << 10 }, ""},
		{"batch", func(o *Options) { o.Batch = 9 }, ""},
		{"thresholds in another order", func(o *Options) { o.Thetas = []float64{0.1, 0.5} }, ""},
		{"all layers by name", func(o *Options) { o.Layers = []string{"conv1", "conv2", "hidden"} }, ""},
		{"epochs that were chosen", func(o *Options) { o.Recipe.Epochs = 3 }, ""},
		{"theta", func(o *Options) { o.Theta = 0.31 }, "theta: 0.3, now 0.31"},
		{"seed", func(o *Options) { o.Split.Seed = 12 }, "the seed: 11, now 12"},
		{"split", func(o *Options) { o.Split.Limit = 60 }, "the samples that heads are trained on are others"},
		{"preprocessing", func(o *Options) { o.Preprocess = dataset.Preprocess{} }, `the preprocessing: signed, now unit`},
		{"recipe", func(o *Options) { o.Recipe.Epochs = 4 }, "heads were trained in another way"},
		{"layers", func(o *Options) { o.Layers = []string{"conv1"} }, "other layers are measured"},
		{"pooling", func(o *Options) { o.MaxSide = 2 }, "other layers are measured"},
		{"memory that asks for pooling", func(o *Options) { o.Memory = 12_000 }, "other layers are measured"},
		{"sweep", func(o *Options) { o.Thetas = nil }, "thresholds swept: [0.1 0.5], now []"},
		{"stability", func(o *Options) { o.Stability = 3 }, "repeated measurements: 2, now 3"},
		{"orders", func(o *Options) { o.Orders = 3 }, "label orders: 0, now 3"},
		{"top", func(o *Options) { o.Top = 3 }, "top samples: 2, now 3"},
		{"confusion", func(o *Options) { o.Confusion = true }, "other statistics are asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := opt
			o.Thetas = slices.Clone(opt.Thetas)
			c.change(&o)
			id, err := Identify(t.Context(), eng, m, openSet(t, data), o)
			if err != nil {
				t.Fatal(err)
			}
			ok, why := read.Answers(id)
			if ok != (c.say == "") || !strings.HasPrefix(why, c.say) {
				t.Errorf("answers %v: %q", ok, why)
			}
			if c.name == "nothing" && !reflect.DeepEqual(id, res.Identity()) {
				t.Errorf("identity %+v, of the result %+v", id, res.Identity())
			}
		})
	}
	id, err := Identify(t.Context(), eng, m, openSet(t, changed), opt)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := read.Answers(id); ok || why != "the samples measured are others" {
		t.Errorf("a sample with other content: %v, %q", ok, why)
	}
	read.Method++
	if ok, why := read.Answers(res.Identity()); ok || why != "it was measured by another version of filterlens" {
		t.Errorf("another version: %v, %q", ok, why)
	}
	old := *res
	old.Input, old.Method = nil, 0
	if ok, _ := old.Answers(res.Identity()); ok {
		t.Error("a file of an older version answers")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestKnownResult has a result answer without anything being run.
func TestKnownResult(t *testing.T) {
	eng, m, data := runtime(t), small(t, testK), imageFolder(t, testK, 14)
	st, err := state.Open(filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	type told struct {
		layer Layer
		f     Fields
	}
	each := func(to *[]told) func(*Layer, Fields) error {
		return func(l *Layer, f Fields) error {
			f.W, f.Means = slices.Clone(f.W), slices.Clone(f.Means)
			*to = append(*to, told{*l, f})
			return nil
		}
	}
	var first []told
	opt := testOptions()
	opt.State, opt.Each = st, each(&first)
	res, err := Measure(t.Context(), eng, m, openSet(t, data), opt)
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	again := func(o Options) *Result {
		t.Helper()
		ran = false
		o.Known = res
		o.Progress = func(stage string, _, _ int) { ran = ran || stage != "comparing samples" }
		got, err := Measure(t.Context(), eng, m, openSet(t, data), o)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	plain := testOptions()
	if again(plain) != res || ran {
		t.Error("the known result is not returned")
	}
	var second []told
	opt.Each = each(&second)
	if again(opt) != res || ran {
		t.Error("the known result is not returned where layers are told")
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("layers told again are others")
	}
	// Without state the fields are not there any more.
	plain.Each = each(&second)
	second = nil
	if again(plain) == res || !ran {
		t.Error("a known result is returned without its fields")
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("layers measured again are others")
	}
	plain = testOptions()
	plain.Theta = 0.5
	if again(plain) == res || !ran {
		t.Error("a known result is returned to another question")
	}

	// One of the parts is gone: nothing is told before that is known.
	files, err := filepath.Glob(filepath.Join(st.Dir(), partMeans+"-*"))
	if err != nil || len(files) != len(res.Layers) {
		t.Fatalf("files %q, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	second = nil
	var missing *MissingError
	if err := Replay(t.Context(), m, st, res, each(&second)); !errors.As(err, &missing) || missing.What != "label means" || len(second) > 0 {
		t.Errorf("replay of what is not there: %v, %d layers", err, len(second))
	}
	opt.Each = each(&second)
	if again(opt) == res || !reflect.DeepEqual(first, second) {
		t.Error("what is gone was not measured again")
	}
}

// TestPartsAreUsedAgain changes settings between measurements with one state.
func TestPartsAreUsedAgain(t *testing.T) {
	eng, m, data := runtime(t), small(t, testK), imageFolder(t, testK, 14)
	dir := filepath.Join(t.TempDir(), "state")
	measure := func(change func(*Options)) (*Result, map[string]bool) {
		t.Helper()
		st, err := state.Open(dir, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		opt := testOptions()
		stages := map[string]bool{}
		change(&opt)
		plain := opt
		opt.State = st
		opt.Progress = func(stage string, _, _ int) { stages[stage] = true }
		res, err := Measure(t.Context(), eng, m, openSet(t, data), opt)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := Measure(t.Context(), eng, m, openSet(t, data), plain)
		if err != nil {
			t.Fatal(err)
		}
		equalResults(t, fresh, res, 1e-5)
		return res, stages
	}
	const collecting, training, judging, means = "collecting features", "training heads", "judging heads", "measuring label means"
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"two layers", func(o *Options) { o.Layers = []string{"conv1", "hidden"} }, []string{collecting, training, judging, means}},
		{"a layer more", func(*Options) {}, []string{collecting, training, judging, means}},
		{"another threshold", func(o *Options) { o.Theta = 0.5 }, nil},
		{"more thresholds", func(o *Options) { o.Thetas = []float64{0.2} }, nil},
		{"top samples", func(o *Options) { o.Top = 2 }, []string{judging}},
		{"stability", func(o *Options) { o.Stability = 3 }, []string{means, "finding clusters of repeated measurements"}},
		{"fewer layers", func(o *Options) { o.Layers = []string{"conv1", "hidden"} }, nil},
		{"one layer", func(o *Options) { o.Layers = []string{"conv2"} }, []string{judging}},
		{"another seed", func(o *Options) { o.Split.Seed = 4 }, []string{collecting, training, judging, means}},
	} {
		_, stages := measure(c.change)
		delete(stages, "comparing samples")
		delete(stages, "finding clusters")
		for _, s := range c.want {
			if !stages[s] {
				t.Errorf("%s: no %q", c.name, s)
			}
			delete(stages, s)
		}
		if len(stages) > 0 {
			t.Errorf("%s: measured again: %v", c.name, stages)
		}
	}
}
