package probe

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// A spy is an engine that notes what its sessions are given.
type spy struct {
	engine.Engine
	provider string // "" is that of the engine
	plain    bool   // sessions hold nothing
	// most is the largest number of values that one run was given, by what the
	// session is for, gave the number that all of its runs gave back; holds counts calls of Hold with something to hold, by the
	// session's name, puts those of Put.
	most  map[string]int
	gave  map[string]int
	holds map[string]int
	puts  int
}

func (s *spy) Provider() string {
	if s.provider != "" {
		return s.provider
	}
	return s.Engine.Provider()
}

func (s *spy) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	sess, err := s.Engine.Load(ctx, m)
	if err != nil {
		return nil, err
	}
	if s.most == nil {
		s.most, s.gave, s.holds = map[string]int{}, map[string]int{}, map[string]int{}
	}
	w := watched{sess, s, m.Name[strings.LastIndex(m.Name, "(")+1:]}
	if s.plain {
		return struct{ engine.Session }{w}, nil
	}
	return w, nil
}

type watched struct {
	engine.Session
	spy  *spy
	name string
}

func (w watched) Run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	n := 0
	for _, t := range in {
		n += int(engine.Elements(t.Shape))
	}
	kind, _, _ := strings.Cut(w.name, " ")
	w.spy.most[kind] = max(w.spy.most[kind], n)
	err := w.Session.Run(ctx, in, out)
	for _, t := range out {
		if t != nil {
			w.spy.gave[kind] += int(engine.Elements(t.Shape))
		}
	}
	return err
}

func (w watched) Hold(fixed map[string]*engine.Tensor, carry map[string]string) error {
	if len(fixed) > 0 {
		w.spy.holds[w.name]++
	}
	return w.Session.(holder).Hold(fixed, carry)
}

func (w watched) Put(values map[string]*engine.Tensor) error {
	w.spy.puts++
	return w.Session.(holder).Put(values)
}

func (w watched) Held(ctx context.Context) (map[string]*engine.Tensor, error) {
	return w.Session.(holder).Held(ctx)
}

// fitAll trains the heads of a model and returns them.
func fitAll(t *testing.T, p *measurer, groups [][]*head) []*head {
	t.Helper()
	var heads []*head
	for _, g := range groups {
		if err := p.fitHeads(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		heads = append(heads, g...)
	}
	return slices.DeleteFunc(heads, func(h *head) bool { return h.own })
}

// tolerance is how far numbers may be apart that are computed alike: not at all on
// the CPU, by rounding where a library chooses its kernels by their speed each time.
func tolerance(eng engine.Engine) float64 {
	if eng.Provider() == "cpu" {
		return 0
	}
	return 1e-4
}

func equalWeights(eng engine.Engine, a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= tolerance(eng) })
}

// TestHeldTraining: heads whose state stays in the session are those whose state
// goes in and out with every step, to the last bit.
func TestHeldTraining(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	for _, c := range []struct {
		name   string
		memory int64
		kind   string
	}{
		{"cached", 0, "head"},
		{"streamed", 16 << 10, "heads)"}, // as in TestMemory
	} {
		fit := func(s *spy) []*head {
			opt := testOptions()
			opt.Memory = c.memory
			p, _, groups, err := prepare(m, set, opt)
			if err != nil {
				t.Fatal(err)
			}
			p.eng = s
			return fitAll(t, p, groups)
		}
		through := &spy{Engine: eng}
		want := fit(through)
		if len(through.holds) > 0 && eng.Provider() == "cpu" {
			t.Errorf("%s: tensors are held on the CPU", c.name)
		}
		held := &spy{Engine: eng, provider: "far"}
		without := &spy{Engine: eng, provider: "far", plain: true}
		for _, s := range []*spy{held, without} {
			for i, h := range fit(s) {
				if !equalWeights(eng, h.w, want[i].w) || math.Abs(h.loss-want[i].loss) > tolerance(eng) || h.norm != want[i].norm {
					t.Errorf("%s: layer %s: weights %v, loss %v; without holding %v, %v", c.name, h.tap.Name(), h.w[:4], h.loss, want[i].w[:4], want[i].loss)
				}
				if h.z != nil || h.w2 != nil || h.z2 != nil {
					t.Errorf("%s: layer %s: the state of a finished head is kept", c.name, h.tap.Name())
				}
			}
		}
		if len(held.holds) == 0 || held.puts == 0 || len(without.holds) > 0 {
			t.Errorf("%s: %v holds, %d puts; %v without", c.name, held.holds, held.puts, without.holds)
		}
		for name, n := range held.holds {
			if strings.HasPrefix(name, "head of") && n != 1 {
				t.Errorf("%s: the features of %s went to the device %d times", c.name, name, n)
			}
		}
		// A held step is given labels and images or numbers of samples, another
		// the weights besides, and a cached one all features.
		small, large := held.most[c.kind], without.most[c.kind]
		if least := 2 * testK * want[0].d(); small == 0 || large-small < least {
			t.Errorf("%s: at most %d values for a run with holding, %d without; at least %d fewer are expected", c.name, small, large, least)
		}
	}
}

// TestSync: between two steps of an epoch the state of a head can be read, and
// training goes on as if it had not been.
func TestSync(t *testing.T) {
	const k, d, n = 3, 4, 5
	recipe := DefaultRecipe()
	recipe.Epochs = 2
	run := func(hold, sync bool) (weights [][]float32, loss float64) {
		p := &measurer{m: small(t, testK), eng: runtime(t), k: k, opt: Options{Recipe: recipe}, hold: hold}
		h := &head{tap: &Tap{Layers: []string{"l"}, Filters: d, Height: 1, Width: 1, Pool: 1}, norm: 1}
		if err := h.prepare(k, spread{RMS: 1}); err != nil {
			t.Fatal(err)
		}
		h.start(1, recipe)
		b := newGraph()
		x := b.input("x", 1, -1, d)
		tr := trainer{p: p, heads: []*head{h}}
		tr.add(b, func(*head) string { return x })
		var err error
		if tr.sess, err = p.load(t.Context(), "step", b); err != nil {
			t.Fatal(err)
		}
		defer tr.sess.Close()
		for epoch := range recipe.Epochs {
			if err := tr.begin(epoch, attempt{}); err != nil {
				t.Fatal(err)
			}
			for step := range n {
				rows := []float32{1, 2, 3, 4, 4, 3, float32(step), -1}
				in, out := map[string]*engine.Tensor{x: engine.NewFloat32(rows, 2, d)}, map[string]*engine.Tensor{}
				tr.feed([]int{step % k, 2}, in, out)
				if err := tr.sess.Run(t.Context(), in, out); err != nil {
					t.Fatal(err)
				}
				tr.took(2, out)
				if sync {
					if err := tr.sync(t.Context()); err != nil {
						t.Fatal(err)
					}
					weights = append(weights, slices.Clone(h.w), slices.Clone(h.z))
				}
			}
			if err := tr.end(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if tr.seen != 2*n {
			t.Errorf("%d samples seen in an epoch of %d", tr.seen, 2*n)
		}
		return append(weights, h.w, h.z), h.loss
	}
	want, loss := run(false, true)
	for i := 2; i < len(want); i++ {
		if slices.Equal(want[i], want[i-2]) && i < len(want)-2 {
			t.Fatalf("state %d is that of the step before", i)
		}
	}
	for _, c := range []struct{ hold, sync bool }{{true, true}, {true, false}, {false, false}} {
		got, l := run(c.hold, c.sync)
		from := len(want) - len(got)
		if !reflect.DeepEqual(got, want[from:]) || l != loss || math.IsNaN(loss) {
			t.Errorf("held %v, read %v: other weights, loss %v for %v", c.hold, c.sync, l, loss)
		}
	}
}

// TestPassesOfFitting: where some heads are trained inside the trunk, the others are
// trained with them unless a pass of their own costs less, and the lengths of
// features are taken along by a pass for others.
func TestPassesOfFitting(t *testing.T) {
	eng, m, set := runtime(t), small(t, testK), folder(t, testK, 20)
	for _, c := range []struct {
		epochs int
		memory int64
		want   int
	}{
		{3, 0, 1},
		{3, 30 << 10, 1 + 3},       // conv1 is cached, conv2 is not
		{3, 16 << 10, 2 * (1 + 3)}, // groups of one, neither is
		{1, 30 << 10, 1 + 1},
	} {
		opt := testOptions()
		opt.Recipe.Epochs, opt.Memory = c.epochs, c.memory
		ran := map[string]int{}
		opt.Progress = func(stage string, done, total int) {
			if done == total && !strings.HasPrefix(stage, "training heads (") && stage != "training heads" {
				ran[stage]++
			}
		}
		p, _, groups, err := prepare(m, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		p.eng = eng
		planned := 0
		for _, g := range groups {
			planned += p.planFit(g).passes(c.epochs)
		}
		fitAll(t, p, groups)
		got := 0
		for _, n := range ran {
			got += n
		}
		if got != c.want || planned != c.want {
			t.Errorf("%d epochs, limit %d: %d passes, %d are planned, want %d: %v", c.epochs, c.memory, got, planned, c.want, ran)
		}
	}
	// Six taps of which two have features too large to keep: with those that are
	// kept in three passes, or all in the passes of the two.
	for _, c := range []struct{ epochs, cached, streamed int }{{10, 0, 1}, {2, 0, 1}, {1, 0, 1}} {
		p := &measurer{k: 10, fit: dataset.Split{Index: make([]int, 1000)}, opt: Options{Memory: 1 << 20, Recipe: Recipe{Epochs: c.epochs}}}
		var heads []*head
		for _, f := range []int{150, 150, 150, 150, 600, 600} {
			heads = append(heads, &head{tap: &Tap{Layers: []string{"l"}, Filters: f, Height: 1, Width: 1, Pool: 1}})
		}
		plan := p.planFit(heads)
		if len(plan.cached) != c.cached || len(plan.streamed) != c.streamed {
			t.Errorf("%d epochs: %d groups cached, %d streamed, want %d and %d", c.epochs, len(plan.cached), len(plan.streamed), c.cached, c.streamed)
		}
	}
}

// TestCountNodes: plugins and providers built in have other names for themselves.
func TestCountNodes(t *testing.T) {
	p := &measurer{eng: &spy{provider: "cuda"}}
	p.countNodes(map[string][]string{"CudaPluginExecutionProvider": {"Conv a", "Relu"}, "CPUExecutionProvider": {"Shape s", "Gather"}})
	p.countNodes(map[string][]string{"CUDAExecutionProvider": {"Conv a"}, "CPUExecutionProvider": {"Shape s"}})
	many := make([]string, 30)
	for i := range many {
		many[i] = "Gather " + strings.Repeat("g", i)
	}
	p.countNodes(map[string][]string{"CPUExecutionProvider": many})
	if want := map[string]int{"cuda": 3, "cpu": 33}; !reflect.DeepEqual(p.nodes, want) {
		t.Errorf("%v, want %v", p.nodes, want)
	}
	if len(p.elsewhere) != maxElsewhere || p.elsewhere[0] != "Shape s" || p.elsewhere[1] != "Gather" || p.elsewhere[2] != "Gather " {
		t.Errorf("elsewhere: %q", p.elsewhere)
	}
	opt := testOptions()
	opt.Layers = []string{"hidden"}
	res, err := Measure(t.Context(), runtime(t), small(t, testK), folder(t, testK, 9), opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Nodes) == 0 || res.Nodes[res.Provider] < 10 || res.Provider == "cpu" && len(res.Elsewhere) > 0 {
		t.Errorf("nodes %v, elsewhere %q", res.Nodes, res.Elsewhere)
	}
}
