package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/afcc/probe/state"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// A trial is a measurement that tests interrupt: each time from a data set and a
// state folder that are opened anew, as another process would.
type trial struct {
	eng  engine.Engine
	m    *inspect.Model
	data string
	opt  Options
	logs []string
}

// run measures, with the state in dir unless that is "".
func (r *trial) run(ctx context.Context, t testing.TB, dir string, progress func(stage string)) (*Result, error) {
	t.Helper()
	opt := r.opt
	if dir != "" {
		st, err := state.Open(dir, state.Options{Log: func(l string) { r.logs = append(r.logs, l) }})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		opt.State = st
	}
	if progress != nil {
		opt.Progress = func(stage string, _, _ int) { progress(stage) }
	}
	return Measure(ctx, r.eng, r.m, openSet(t, r.data), opt)
}

// text is a result as a file has it.
func text(t testing.TB, res *Result) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	if err := enc.Encode(res); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// same compares results byte for byte and shows the first lines that differ.
func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: line %d is %q, want %q", what, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

// copyFolder copies what a kill would leave.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(to, 0o777); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		in, err := os.Open(filepath.Join(from, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(to, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		in.Close()
		out.Close()
	}
	return to
}

// trials are measurements of each kind.
func trials(t *testing.T) map[string]*trial {
	eng := runtime(t)
	data := imageFolder(t, testK, 14)
	set := openSet(t, data)
	damaged := imageFolder(t, testK, 14)
	fit, stats, eval, err := set.Split(testOptions().Split)
	if err != nil {
		t.Fatal(err)
	}
	s := samples{t, damaged, openSet(t, damaged)}
	// One in the middle of each split, one at the end, and the whole of a batch.
	for _, i := range [][]int{fit.Index, stats.Index, eval.Index} {
		s.corrupt(i[3], i[len(i)-1])
	}
	s.corrupt(eval.Index[8:13]...)
	few := func() Options {
		o := testOptions()
		o.Checkpoint = 3 * time.Millisecond
		return o
	}
	with := func(change func(*Options)) Options {
		o := few()
		change(&o)
		return o
	}
	everything := func(o *Options) {
		o.Checkpoint = 1 // after each batch
		o.Thetas, o.Stability, o.Orders, o.Confusion, o.Single, o.Top = []float64{0.1, 0.6}, 5, 2, true, true, 3
	}
	fixed := newNet(3, 3, 8)
	fixed.conv("conv1", 3, 4, 3, 1).op("Relu").pool().op("Flatten").reshape(12, 16).reshape(3, 64).gemm("classifier", 64, testK)
	glare, glares, _ := glaring(t)
	return map[string]*trial{
		"outliers":           {eng: eng, m: glare, data: glares, opt: few()},
		"outliers, streamed": {eng: eng, m: glare, data: glares, opt: with(func(o *Options) { o.Memory, o.Checkpoint = 16<<10, 1 })},
		"features in memory": {eng: eng, m: small(t, testK), data: data, opt: few()},
		"two groups":         {eng: eng, m: small(t, testK), data: data, opt: with(func(o *Options) { o.Memory = 30 << 10 })},
		"streamed":           {eng: eng, m: small(t, testK), data: data, opt: with(func(o *Options) { o.Memory = 16 << 10 })},
		"everything":         {eng: eng, m: small(t, testK), data: data, opt: with(everything)},
		"means in passes":    {eng: eng, m: small(t, testK), data: data, opt: with(func(o *Options) { everything(o); o.Memory = 64 << 10 })},
		"unreadable files":   {eng: eng, m: small(t, testK), data: damaged, opt: with(everything)},
		"streamed, unreadable": {eng: eng, m: small(t, testK), data: damaged, opt: with(func(o *Options) {
			everything(o)
			o.Memory = 16 << 10
		})},
		// Features so long that training overflows, and is begun anew with shorter ones.
		"restarts": {eng: eng, m: small(t, testK), data: data, opt: with(func(o *Options) { o.Recipe.Norm = 1e21 })},
		"streamed, restarts of one head": {eng: eng, m: small(t, testK), data: data, opt: with(func(o *Options) {
			o.Memory, o.Checkpoint = 16<<10, 1
			o.Recipe.Norm = 1.2e20
		})},
		// As on a GPU: weights stay in the session from step to step.
		"held": {eng: &spy{Engine: eng, provider: "held"}, m: small(t, testK), data: data, opt: with(func(o *Options) { o.Checkpoint = 1 })},
		"held, streamed": {eng: &spy{Engine: eng, provider: "held"}, m: small(t, testK), data: data, opt: with(func(o *Options) {
			o.Memory, o.Checkpoint = 16<<10, 1
		})},
		"fixed batch": {eng: eng, m: fixed.model(t, 3, testK), data: data, opt: with(everything)},
	}
}

// TestStateChangesNothing compares measurements with and without state, and a
// second one that finds all parts.
func TestStateChangesNothing(t *testing.T) {
	for name, r := range trials(t) {
		t.Run(name, func(t *testing.T) {
			plain, err := r.run(t.Context(), t, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := text(t, plain)
			dir := filepath.Join(t.TempDir(), "state")
			res, err := r.run(t.Context(), t, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "with state", text(t, res), want)
			var stages []string
			res, err = r.run(t.Context(), t, dir, func(stage string) { stages = append(stages, stage) })
			if err != nil {
				t.Fatal(err)
			}
			same(t, "found again", text(t, res), want)
			for _, s := range stages {
				if s != "comparing samples" && s != "finding clusters" {
					t.Errorf("all was kept, yet there is %q", s)
					break
				}
			}
			if len(r.logs) > 0 {
				t.Errorf("logged %q", r.logs)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range left {
				for _, kind := range []string{partLabels, partSums, partFeatures, partTraining} {
					if strings.HasPrefix(filepath.Base(file), kind+"-") {
						t.Errorf("%s is still there", filepath.Base(file))
					}
				}
			}
		})
	}
}

// TestResumeAfterCancel breaks measurements off again and again, each time a little
// later, and compares what comes in the end.
func TestResumeAfterCancel(t *testing.T) {
	for name, r := range trials(t) {
		t.Run(name, func(t *testing.T) {
			plain, err := r.run(t.Context(), t, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := text(t, plain)
			for seed := range uint64(2) {
				random := rand.New(rand.NewPCG(seed, 1))
				dir := filepath.Join(t.TempDir(), "state")
				for attempt := 0; ; attempt++ {
					if attempt == 500 {
						t.Fatal("it does not get anywhere")
					}
					ctx, cancel := context.WithCancel(t.Context())
					left := 8 + random.IntN(30)
					res, err := r.run(ctx, t, dir, func(stage string) {
						if left--; left == 0 && stage != "comparing samples" {
							cancel()
						}
					})
					cancel()
					if err == nil {
						t.Logf("done at attempt %d", attempt)
						same(t, "in the end", text(t, res), want)
						break
					}
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
				}
			}
			if len(r.logs) > 0 {
				t.Errorf("logged %q", r.logs)
			}
		})
	}
}

// TestResumeAfterKill goes on from copies of the state folder that were made in the
// middle of a measurement, as a kill would leave it.
func TestResumeAfterKill(t *testing.T) {
	for name, r := range trials(t) {
		t.Run(name, func(t *testing.T) {
			plain, err := r.run(t.Context(), t, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := text(t, plain)
			dir := filepath.Join(t.TempDir(), "state")
			random := rand.New(rand.NewPCG(5, 5))
			var copies, stages []string
			if _, err := r.run(t.Context(), t, dir, func(stage string) {
				if random.IntN(8) == 0 {
					copies, stages = append(copies, copyFolder(t, dir)), append(stages, stage)
				}
			}); err != nil {
				t.Fatal(err)
			}
			for i, dir := range copies {
				res, err := r.run(t.Context(), t, dir, nil)
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("killed while %s", stages[i]), text(t, res), want)
			}
			t.Logf("%d times", len(copies))
		})
	}
}

// TestDamagedState changes a byte in every file of a state folder, cuts another, and
// measures: the result is the same, and each file is reported.
func TestDamagedState(t *testing.T) {
	r := trials(t)["everything"]
	plain, err := r.run(t.Context(), t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := text(t, plain)
	dir := filepath.Join(t.TempDir(), "state")
	var halfway string
	if _, err := r.run(t.Context(), t, dir, func(stage string) {
		if stage == "measuring label means" {
			halfway = copyFolder(t, dir)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, halfway} {
		files, err := filepath.Glob(filepath.Join(dir, "*-*"))
		if err != nil || len(files) < 4 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for i, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				data[len(data)/2] ^= 4
			} else {
				data = data[:len(data)*2/3]
			}
			if err := os.WriteFile(file, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		r.logs = nil
		res, err := r.run(t.Context(), t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after damage", text(t, res), want)
		if len(r.logs) == 0 {
			t.Error("nothing was reported")
		}
	}
}

// TestPlannedState compares the bytes of the state folder with those planned.
func TestPlannedState(t *testing.T) {
	for name, r := range trials(t) {
		t.Run(name, func(t *testing.T) {
			plan, err := NewPlan(r.m, openSet(t, r.data), r.opt)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "state")
			size := func() (n int64) {
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if info, err := e.Info(); err == nil {
						n += info.Size()
					}
				}
				return n
			}
			most := int64(0)
			if _, err := r.run(t.Context(), t, dir, func(string) { most = max(most, size()) }); err != nil {
				t.Fatal(err)
			}
			// Small as these are, what frames the parts weighs more than they do.
			const frames = 60 << 10
			if most > 2*plan.State+frames || size() > 2*plan.Kept+frames {
				t.Errorf("%d bytes at most and %d in the end, planned were %d and %d", most, size(), plan.State, plan.Kept)
			}
			if plan.Kept < 1 || plan.State < plan.Kept {
				t.Errorf("planned are %d bytes and %d in the end", plan.State, plan.Kept)
			}
		})
	}
}

// TestDue: the first checkpoint comes after two seconds, then at a quarter of the
// time that has passed and no later than asked for; after a saving that took long
// there is none for twenty times as long, whatever quick ones come in between.
func TestDue(t *testing.T) {
	st, err := state.Open(filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const s, ms = time.Second, time.Millisecond
	for _, c := range []struct {
		every, running, since time.Duration
		want                  bool
	}{
		{time.Minute, 1900 * ms, 1900 * ms, false},
		{time.Minute, 2100 * ms, 2100 * ms, true},
		{time.Minute, 6 * s, 1900 * ms, false},
		{time.Minute, 6 * s, 2100 * ms, true},
		{time.Minute, 40 * s, 9 * s, false},
		{time.Minute, 40 * s, 11 * s, true},
		{time.Minute, time.Hour, 59 * s, false},
		{time.Minute, time.Hour, 61 * s, true},
		{500 * ms, 600 * ms, 400 * ms, false},
		{500 * ms, 600 * ms, 550 * ms, true},
	} {
		now := time.Now()
		k := keeper{store: st, every: c.every, begin: now.Add(-c.running), last: now.Add(-c.since)}
		if got := k.due(); got != c.want {
			t.Errorf("every %v, %v after the beginning and %v after the last: due is %v", c.every, c.running, c.since, got)
		}
		if k.store = nil; k.due() {
			t.Error("due without a store")
		}
	}
	for _, c := range []struct {
		every, cost, ago time.Duration
		want             bool
	}{
		{10 * ms, 20 * ms, 90 * ms, false}, // 20 x 20 ms is more than 10 x 10 ms
		{10 * ms, 20 * ms, 150 * ms, true},
		{time.Second, 20 * ms, 350 * ms, false},
		{time.Second, 20 * ms, 2 * time.Second, true},
	} {
		now := time.Now()
		k := keeper{store: st, every: c.every, begin: now.Add(-time.Hour), last: now.Add(-time.Hour)}
		for _, cost := range []time.Duration{c.cost, 0} {
			if err := k.took(func() error { time.Sleep(cost); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		// As if that had been some time ago.
		k.last, k.quiet = k.last.Add(-c.ago), k.quiet.Add(-c.ago)
		if got := k.due(); got != c.want {
			t.Errorf("every %v, %v after a saving of %v: due is %v", c.every, c.ago, c.cost, got)
		}
	}
}

// A slow engine takes its time for each run of a session whose name begins with
// what.
type slow struct {
	engine.Engine
	what string
	each time.Duration
}

func (e slow) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	s, err := e.Engine.Load(ctx, m)
	if err == nil && strings.Contains(m.Name, e.what) {
		s = slowSession{s, e.each}
	}
	return s, err
}

type slowSession struct {
	engine.Session
	each time.Duration
}

func (s slowSession) Run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	select {
	case <-time.After(s.each):
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.Session.Run(ctx, in, out)
}

// TestKilledSoon kills a measurement again and again three seconds after its
// beginning, with the checkpoints that there are when nobody asks for others, while
// it trains a head for six. What it leaves is a copy of the state folder.
func TestKilledSoon(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	eng := slow{runtime(t), "head of ", 0}
	r := &trial{eng: eng, m: small(t, testK), data: imageFolder(t, testK, 14), opt: testOptions()}
	r.opt.Layers = []string{"conv2"}
	plain, err := r.run(t.Context(), t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	fit := plain.Data.Fit.Samples
	steps := r.opt.Recipe.Epochs * ((fit + r.opt.Recipe.Batch - 1) / r.opt.Recipe.Batch)
	eng.each = 6 * time.Second / time.Duration(steps)
	r.eng = eng
	dir := filepath.Join(t.TempDir(), "state")
	for attempt := 1; ; attempt++ {
		if attempt == 8 {
			t.Fatal("it does not get anywhere")
		}
		ctx, cancel := context.WithCancel(t.Context())
		type outcome struct {
			res *Result
			err error
		}
		ended := make(chan outcome, 1)
		go func() {
			res, err := r.run(ctx, t, dir, nil)
			ended <- outcome{res, err}
		}()
		select {
		case o := <-ended:
			cancel()
			if o.err != nil {
				t.Fatal(o.err)
			}
			same(t, "in the end", text(t, o.res), text(t, plain))
			if attempt == 1 {
				t.Error("it was never killed")
			}
			t.Logf("done at attempt %d", attempt)
			return
		case <-time.After(3 * time.Second):
			left := copyFolder(t, dir)
			cancel()
			<-ended
			dir = left
		}
	}
}
