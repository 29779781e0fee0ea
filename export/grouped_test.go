package export

import (
	"context"
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
)

// deal puts channel i of a convolution of out x in channels into part i % parts of both
// sides, and clears the kernels between parts.
func (n *net) deal(conv string, parts int) {
	for _, w := range n.g.Initializer {
		if w.GetName() != "w."+conv {
			continue
		}
		in, kernel := int(w.Dims[1]), int(w.Dims[2]*w.Dims[3])
		for o := range int(w.Dims[0]) {
			for c := range in {
				at := 4 * (o*in + c) * kernel
				if o%parts != c%parts {
					clear(w.RawData[at : at+4*kernel])
				}
				for i := 0; i < kernel; i++ { // so that outputs stay near 1
					v := math.Float32frombits(binary.LittleEndian.Uint32(w.RawData[at+4*i:]))
					binary.LittleEndian.PutUint32(w.RawData[at+4*i:], math.Float32bits(v/float32(math.Sqrt(float64(in*kernel)))))
				}
			}
		}
	}
}

// wide is a net of which only the convolution b takes long, and that falls into eight
// blocks; c falls into eight others.
func wide(t *testing.T) *inspect.Model {
	n := newNet().conv("a", 3, 256).conv("b", 256, 256).conv("c", 256, 8).head(8)
	n.deal("b", 8)
	return n.model(t)
}

// grouping runs group on m.
func grouping(t *testing.T, eng engine.Engine, m *inspect.Model) (*pipeline, error) {
	t.Helper()
	p := &pipeline{eng: eng, m: m, plan: &Plan{}, target: filepath.Join(t.TempDir(), "out.onnx"), r: &Report{Compaction: &Compaction{}}}
	p.opt.Probe.Progress = func(string, int, int) {}
	t.Cleanup(p.close)
	var err error
	if p.final, err = p.write(t.Context(), m.Handle.Draft()); err != nil {
		t.Fatal(err)
	}
	return p, p.group(t.Context())
}

// TestGrouped: a convolution of eight blocks is computed in groups when that is faster.
func TestGrouped(t *testing.T) {
	eng := runtime(t)
	m := wide(t)
	var p *pipeline
	for range 3 { // another process may get in between
		var err error
		if p, err = grouping(t, eng, m); err != nil {
			t.Fatal(err)
		}
		if p.r.Compaction.Grouped[0].Kept {
			break
		}
	}
	list := p.r.Compaction.Grouped
	if len(list) != 1 || list[0].Layer != "b" || list[0].Components != 8 {
		t.Fatalf("%+v", list)
	}
	l := list[0]
	t.Logf("%d groups, %d Gather nodes, kept %v, won %.2f: %+v to %+v", l.Groups, l.Gathers, l.Kept, l.Won, *l.Before, *l.After)
	if !l.Kept || l.Won < 0.7 || l.After.Median >= l.Before.Median || l.MACs != 1/float64(l.Groups) || l.Gathers != 0 || l.Reason != "" {
		t.Errorf("%+v", l)
	}
	groups := int64(0)
	for _, n := range p.final.m.Graph.Nodes {
		if n.Label() == "b" {
			groups = n.AttrInt("group", 1)
		}
	}
	if groups != int64(l.Groups) {
		t.Errorf("the file computes it in %d groups", groups)
	}
	if c := p.r.Checks; len(c) != 1 || c[0].Name != "grouped" || !c[0].OK {
		t.Errorf("%+v", c)
	}
}

// TestGroupedTogether: of several convolutions all are computed in groups, with the
// same answers.
func TestGroupedTogether(t *testing.T) {
	eng := runtime(t)
	n := newNet().conv("a", 3, 128).conv("b", 128, 128).conv("c", 128, 128).conv("d", 128, 128).head(128)
	n.deal("b", 4)
	n.deal("c", 8)
	n.deal("d", 4)
	m := n.model(t)
	var p *pipeline
	for range 3 {
		var err error
		if p, err = grouping(t, eng, m); err != nil {
			t.Fatal(err)
		}
		if len(p.r.Checks) > 0 {
			break
		}
	}
	kept := 0
	for _, l := range p.r.Compaction.Grouped {
		t.Logf("%+v: %+v to %+v", l, l.Before, l.After)
		if l.Kept {
			kept++
		}
		if l.Kept == (l.Reason != "") || l.Before == nil || l.After == nil {
			t.Errorf("%+v", l)
		}
	}
	grouped := 0
	for _, n := range p.final.m.Graph.Nodes {
		if n.AttrInt("group", 1) > 1 {
			grouped++
		}
	}
	if len(p.r.Compaction.Grouped) != 3 || kept == 0 || grouped != kept || len(p.r.Checks) != 1 || !p.r.Checks[0].OK {
		t.Errorf("%d of %d kept, %d in the file, %+v", kept, len(p.r.Compaction.Grouped), grouped, p.r.Checks)
	}
	// The answers are those of the model itself.
	d, err := noiseDifference(t.Context(), eng, m, p.final.m)
	if err != nil || d.Relative > 1e-4 || d.Samples == 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// A slowed engine takes longer for all models but the first one, or lets their answers
// be others.
type slowed struct {
	engine.Engine
	first   string
	by      time.Duration
	falsify bool
}

func (e *slowed) Load(ctx context.Context, m engine.Model) (engine.Session, error) {
	s, err := e.Engine.Load(ctx, m)
	if e.first == "" {
		e.first = m.Path
	}
	if err != nil || m.Path == e.first {
		return s, err
	}
	return &slowSession{s, e}, nil
}

type slowSession struct {
	engine.Session
	e *slowed
}

func (s *slowSession) Run(ctx context.Context, in, out map[string]*engine.Tensor) error {
	time.Sleep(s.e.by)
	err := s.Session.Run(ctx, in, out)
	if s.e.falsify {
		for _, t := range out {
			t.Float32()[0] += 1
		}
	}
	return err
}

// TestGroupedSlower: groups that are not faster are told and not kept.
func TestGroupedSlower(t *testing.T) {
	p, err := grouping(t, &slowed{Engine: runtime(t), by: 50 * time.Millisecond}, wide(t))
	if err != nil {
		t.Fatal(err)
	}
	list := p.r.Compaction.Grouped
	if len(list) != 1 || list[0].Kept || !strings.HasPrefix(list[0].Reason, "not faster") || list[0].Won > 0.5 || list[0].After == nil || len(p.r.Checks) != 0 {
		t.Errorf("%+v, %+v", list, p.r.Checks)
	}
	for _, n := range p.final.m.Graph.Nodes {
		if n.AttrInt("group", 1) != 1 {
			t.Errorf("%q is grouped", n.Label())
		}
	}
}

// TestGroupedWrong: groups that answer otherwise end the run.
func TestGroupedWrong(t *testing.T) {
	p, err := grouping(t, &slowed{Engine: runtime(t), falsify: true}, wide(t))
	if err == nil || len(p.r.Checks) != 1 || p.r.Checks[0].OK {
		t.Errorf("%v, %+v", err, p.r.Checks)
	}
}

// TestGroupedOpen: without a size nothing can be measured.
func TestGroupedOpen(t *testing.T) {
	n := newNet().conv("a", 3, 16).conv("b", 16, 16).head(16)
	n.deal("b", 2)
	n.g.Input[0] = value("image", -1, 3, -1, -1)
	p, err := grouping(t, runtime(t), n.model(t))
	if err != nil {
		t.Fatal(err)
	}
	if list := p.r.Compaction.Grouped; len(list) != 1 || list[0].Kept || !strings.HasPrefix(list[0].Reason, "not measured") || list[0].Before != nil {
		t.Errorf("%+v", list)
	}
}

func TestFaster(t *testing.T) {
	a := make([]float64, 30)
	for i := range a {
		a[i] = 10 + float64(i%5)
	}
	change := func(fn func(i int, x float64) float64) []float64 {
		b := slices.Clone(a)
		for i := range b {
			b[i] = fn(i, b[i])
		}
		return b
	}
	for name, tt := range map[string]struct {
		b    []float64
		won  float64
		want bool
	}{
		"half the time":                  {change(func(_ int, x float64) float64 { return x / 2 }), 1, true},
		"the same":                       {a, 0, false},
		"always a little":                {change(func(_ int, x float64) float64 { return 0.99 * x }), 1, false},
		"spreads overlap":                {change(func(_ int, x float64) float64 { return 0.9 * x }), 1, true},
		"21 rounds":                      {change(func(i int, x float64) float64 { return x * map[bool]float64{true: 0.5, false: 1.5}[i < 21] }), 0.7, false},
		"22 rounds":                      {change(func(i int, x float64) float64 { return x * map[bool]float64{true: 0.5, false: 1.5}[i < 22] }), 22. / 30, true},
		"a slower half of the same size": {change(func(i int, x float64) float64 { return x * map[bool]float64{true: 0.5, false: 2}[i%2 == 0] }), 0.5, false},
	} {
		won, ok := faster(a, tt.b)
		if ok != tt.want || math.Abs(won-tt.won) > 1e-9 {
			t.Errorf("%s: won %v, %v", name, won, ok)
		}
	}
}
