package browsertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/delta"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report"
)

// An edit is a model whose weights lie in memory, to be changed.
type edit struct {
	t testing.TB
	*onnxpb.ModelProto
}

func editable(t testing.TB, fixture string) *edit {
	t.Helper()
	f, err := onnxfile.Open(filepath.Join("..", "..", "..", "fixtures", fixture))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := &edit{t, proto.Clone(f.Model).(*onnxpb.ModelProto)}
	for i, src := range f.Model.Graph.Initializer {
		if src.GetDataType() != int32(onnxfile.Float) {
			continue
		}
		v, err := f.Tensor(src).Float32s(1 << 24)
		if err != nil {
			t.Fatal(err)
		}
		dst := e.Graph.Initializer[i]
		*dst = onnxpb.TensorProto{Name: src.Name, DataType: src.DataType}
		e.set(dst, v, src.Dims)
	}
	return e
}

func (e *edit) set(p *onnxpb.TensorProto, v []float32, dims []int64) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	p.Dims, p.RawData = dims, raw
}

// tensor returns an initializer and its numbers.
func (e *edit) tensor(name string) (*onnxpb.TensorProto, []float32) {
	e.t.Helper()
	for _, p := range e.Graph.Initializer {
		if p.GetName() == name {
			v := make([]float32, len(p.RawData)/4)
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p.RawData[4*i:]))
			}
			return p, v
		}
	}
	e.t.Fatalf("no initializer %q", name)
	return nil, nil
}

// change maps the numbers of a tensor in place.
func (e *edit) change(name string, f func(i int, v float32) float32) {
	e.t.Helper()
	p, v := e.tensor(name)
	for i := range v {
		v[i] = f(i, v[i])
	}
	e.set(p, v, p.Dims)
}

// take keeps the parts along an axis that order lists, in its order; -1 is a new
// part of numbers from a generator.
func (e *edit) take(name string, axis int, order []int, fresh func() float32) {
	e.t.Helper()
	p, v := e.tensor(name)
	dims := slices.Clone(p.Dims)
	outer, inner := 1, 1
	for i, d := range dims {
		if i < axis {
			outer *= int(d)
		}
		if i > axis {
			inner *= int(d)
		}
	}
	n := int(dims[axis])
	var out []float32
	for o := range outer {
		for _, k := range order {
			for x := range inner {
				if k < 0 {
					out = append(out, fresh())
				} else {
					out = append(out, v[(o*n+k)*inner+x])
				}
			}
		}
	}
	dims[axis] = int64(len(order))
	e.set(p, out, dims)
}

// reorder keeps the filters of a layer that order lists, and the channels of the
// layer that reads them.
func (e *edit) reorder(layer, next string, order []int, fresh func() float32) {
	e.take(layer+".weight", 0, order, fresh)
	e.take(layer+".bias", 0, order, fresh)
	e.take(next+".weight", 1, order, fresh)
}

func (e *edit) open(name string) *inspect.Model {
	e.t.Helper()
	b, err := proto.Marshal(e.ModelProto)
	if err != nil {
		e.t.Fatal(err)
	}
	return openBytes(e.t, b, name)
}

func openBytes(t testing.TB, b []byte, name string) *inspect.Model {
	t.Helper()
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(context.Background(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// What changed does to the fixture, layer by layer.
const (
	diluted  = "features.3"
	permuted = "features.7"
	scaled   = "features.14"
	pruned   = "features.20"
	tuned    = "features.27"
	grown    = "features.30"
)

var prunedFilters = []int{5, 9, 30}

// changed returns the VGG fixture and a copy with every kind of change.
func changed(t testing.TB) (a, b *inspect.Model) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	small := func() float32 { return float32(0.1 * r.NormFloat64()) }
	e := editable(t, "vgg16-glyphs20.onnx")
	a = e.open("folder/vgg16-glyphs20.onnx")
	e.change(diluted+".weight", func(i int, v float32) float32 {
		if i%10 < 3 {
			return 0
		}
		return v
	})
	e.reorder(permuted, "features.10", r.Perm(16), nil)
	e.change(scaled+".weight", func(i int, v float32) float32 {
		if i/(16*9) == 3 {
			return 2 * v
		}
		return v
	})
	e.change(scaled+".bias", func(i int, v float32) float32 {
		if i == 3 {
			return 2 * v
		}
		return v
	})
	e.change("features.17.weight", func(i int, v float32) float32 {
		if i/9%32 == 3 {
			return v / 2
		}
		return v
	})
	e.reorder(pruned, "features.24", slices.DeleteFunc(upTo(32), func(i int) bool { return slices.Contains(prunedFilters, i) }), nil)
	e.change(tuned+".weight", func(_ int, v float32) float32 { return v * (1 + 0.3*float32(r.NormFloat64())) })
	e.reorder(grown, "features.34", append(upTo(64), -1, -1), small)
	g := e.Graph
	var nodes []*onnxpb.NodeProto
	for _, n := range g.Node {
		switch n.GetName() {
		case "/features/features.42/Relu": // removed: what reads it reads what it read
			for _, o := range g.Node {
				for k, in := range o.Input {
					if in == n.Output[0] {
						o.Input[k] = n.Input[0]
					}
				}
			}
			continue
		case "/features/features.33/MaxPool":
			n.OpType = proto.String("AveragePool")
			n.Attribute = slices.DeleteFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool {
				return a.GetName() == "dilations" || a.GetName() == "storage_order"
			})
		case "/Flatten":
			nodes = append(nodes, &onnxpb.NodeProto{OpType: proto.String("Sigmoid"), Name: proto.String("/squash"), Input: n.Input, Output: []string{"squashed"}})
			n.Input = []string{"squashed"}
		}
		nodes = append(nodes, n)
	}
	g.Node = nodes
	e.ProducerName = proto.String("an editor")
	e.MetadataProps = append(e.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String("edited"), Value: proto.String("yes")})
	return a, e.open("folder/vgg16-edited.onnx")
}

// comparedModels compares two models without data.
func comparedModels(t testing.TB, a, b *inspect.Model) *report.Compared {
	t.Helper()
	d, err := delta.Compare(context.Background(), a, b, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	side := func(m *inspect.Model) report.ComparedSide {
		layers := m.Totals.Layers
		return report.ComparedSide{File: m.File, Bytes: &m.FileBytes, Parameters: &m.Totals.Parameters, MACs: m.Totals.MACs, Layers: &layers}
	}
	c := &report.Compared{Schema: report.ComparedSchema, A: side(a), B: side(b), Same: d.Same, Delta: d, Definitions: []string{"structure is compared in canonical form"}}
	if !d.Same {
		c.Differ = []string{report.AspectMetadata, report.AspectStructure, report.AspectWeights, report.AspectFilters}
	}
	return c
}

func ptr[T any](v T) *T { return &v }

// withData adds answers, likeness and statistics to a comparison: invented ones,
// with everything that a page has to show.
func withData(c *report.Compared, layers int) {
	r := rand.New(rand.NewPCG(3, 4))
	labels := make([]string, 20)
	for i := range labels {
		labels[i] = fmt.Sprintf("glyph %c", 'A'+i)
	}
	c.Data = &report.ComparedData{Path: "fixtures/glyphs20", Format: "image folder", Labels: labels, Split: "eval", PreprocessA: "unit", PreprocessB: "imagenet", Engine: "onnxruntime", EngineVersion: "1.27.0", Provider: "cpu"}
	a := &probe.Answers{Samples: 400, Agree: 352, BothRight: 300, OnlyA: 34, OnlyB: 8, BothWrong: 58, P: 7.1e-5, MaxDiff: ptr(4.2), RelDiff: ptr(0.31)}
	a.A, a.B = probe.Evaluation{Samples: 400, Correct: 334, Top1: 0.835, Top5: ptr(0.97)}, probe.Evaluation{Samples: 400, Correct: 308, Top1: 0.77, Top5: ptr(0.95)}
	for i := range labels {
		right := 14 + r.IntN(6)
		a.PerLabel = append(a.PerLabel, probe.LabelAnswers{Samples: 20, RightA: right, RightB: max(0, right+r.IntN(6)-4), Flips: r.IntN(6)})
		_ = i
	}
	for i := range 48 {
		label := r.IntN(20)
		f := probe.Flip{Sample: 7 * i, ID: fmt.Sprintf("eval/%s/%03d.png", labels[label], i), Label: label, A: label, B: (label + 1 + r.IntN(18)) % 20, MarginA: ptr(r.Float64()), MarginB: ptr(r.Float64())}
		switch {
		case i >= 34 && i < 42:
			f.A, f.B = f.B, f.A
		case i >= 42:
			f.A, f.B = (label+1)%20, (label+2)%20
		}
		if i == 47 {
			f.B, f.MarginB = -1, nil
		}
		a.Flips = append(a.Flips, f)
	}
	c.Answers = a
	l := &likeness.Likeness{Samples: 400, Tolerance: 1e-4}
	s := &report.StatisticsDelta{Theta: 0.3, Otherwise: "the models were measured with other seeds"}
	for i := range layers {
		name := fmt.Sprintf("/features/features.%d/Conv", 3*i)
		tap := likeness.Tap{Layer: name, Op: "Conv", Tensor: fmt.Sprint("t", i), Filters: 8 << min(i/3, 4), Height: 32 >> min(i/3, 4), Width: 32 >> min(i/3, 4)}
		other := tap
		other.Layer = fmt.Sprintf("/features/renamed.%d/Conv", i)
		tap.Constant = i == 4
		l.A = append(l.A, tap)
		if i != 5 {
			l.B = append(l.B, other)
		}
	}
	for i := range l.A {
		var row, flat []*float64
		for j := range l.B {
			at := j
			if j >= 5 {
				at++
			}
			v := math.Exp(-math.Abs(float64(i-at))/4) * (0.9 + 0.1*r.Float64())
			p, q := ptr(v), ptr(v-0.12)
			if i == 4 {
				p, q = nil, nil
			}
			row, flat = append(row, p), append(flat, q)
		}
		l.CKA, l.Debiased = append(l.CKA, row), append(l.Debiased, flat)
	}
	for i := range l.A {
		if i == 5 {
			continue
		}
		j := i
		if i > 5 {
			j--
		}
		p := likeness.Layer{A: i, B: j, Filters: l.A[i].Filters, CKA: l.CKA[i][j], Debiased: l.Debiased[i][j], RelL2: ptr(math.Pow(10, float64(i)/2-6)), MaxRel: ptr(0.1), Cosine: ptr(1 - math.Pow(10, float64(i)-13))}
		switch {
		case i == 0:
			p.RelL2, p.Cosine = ptr(0.0), ptr(1.0)
		case i == 4:
			p.RelL2, p.Cosine, p.Note = nil, nil, "A is zero throughout"
		}
		p.Parts = p.RelL2 != nil && *p.RelL2 > l.Tolerance
		if p.Parts && l.Parting == nil {
			l.Parting = ptr(len(l.Layers))
		}
		l.Layers = append(l.Layers, p)
	}
	c.Likeness = l
	for i, p := range l.Layers {
		row := func(by float64) report.StatisticsRow {
			d := float64(i) / float64(max(1, len(l.Layers)-1))
			return report.StatisticsRow{Filters: p.Filters, Accuracy: 0.2 + 0.6*d*by, Clusters: ptr(3 - d), Size: ptr(2 + d*by), Labels: ptr(5.0), Noise: ptr(30 - 20*d), SNR: ptr(0.5 + 4*d*by)}
		}
		x := report.StatisticsPair{Op: "Conv", LayerB: l.B[p.B].Layer, A: row(1), B: row(0.9)}
		x.Layer, x.Filters = l.A[p.A].Layer, p.Filters
		if i == 2 {
			x.B.SNR = nil
		}
		for f := range p.Filters {
			if f%4 != 1 {
				continue
			}
			one := probe.FilterDifference{Filter: f}
			for k := range 1 + f%3 {
				one.Gained = append(one.Gained, probe.LabelChange{Label: (f + k) % 20, First: ptr(float32(0.28)), Second: ptr(float32(0.34))})
			}
			one.Lost = append(one.Lost, probe.LabelChange{Label: (f + 9) % 20, First: ptr(float32(0.31)), Second: nil})
			x.Differ = append(x.Differ, one)
			x.LabelSets++
			x.Gained += len(one.Gained)
			x.Lost++
		}
		s.Layers = append(s.Layers, x)
	}
	s.Unpaired = []probe.Skip{{Layer: l.A[min(5, len(l.A)-1)].Layer, Reason: "it has no counterpart in B"}}
	c.Statistics = s
	c.Differ = append(c.Differ, report.AspectAnswers, report.AspectActivations)
	c.Ignored = []string{report.AspectNames}
	c.Same = false
}

func picture(s int) (image.Image, error) {
	m := image.NewRGBA(image.Rect(0, 0, 32, 32))
	for i := range 32 * 32 {
		x, y := i%32, i/32
		m.Set(x, y, color.RGBA{uint8(7 * s), uint8(8 * x), uint8(8 * y), 255})
	}
	return m, nil
}

func comparedPage(c *report.Compared, pics report.ComparedPictures) func(*bytes.Buffer) error {
	return func(b *bytes.Buffer) error { return report.WriteComparedHTML(b, c, pics) }
}

// screenshots are written to FILTERLENS_SCREENSHOTS, for eyes.
func (p *page) screenshots(name string) {
	p.t.Helper()
	dir := os.Getenv("FILTERLENS_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1400, 800} {
			p.do(chromedp.EmulateViewport(width, 1000), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return err
			}), chromedp.Sleep(400*time.Millisecond))
			// Everything is brought into sight once, so that it is drawn.
			eval[bool](p, `new Promise(async done => { for (let y = 0; y < document.documentElement.scrollHeight; y += 700) { scrollTo(0, y); await new Promise(r => setTimeout(r, 30)); } scrollTo(0, 0); setTimeout(() => done(true), 200); })`)
			tall := eval[int](p, `document.documentElement.scrollHeight`)
			for n := 0; n == 0 || n*1000 < tall && n < 20; n++ {
				eval[bool](p, fmt.Sprintf(`new Promise(done => { scrollTo(0, %d); setTimeout(() => done(true), 60); })`, n*1000))
				b, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
				if err != nil {
					p.t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d-%02d.png", name, scheme, width, n)), b, 0o600); err != nil {
					p.t.Fatal(err)
				}
			}
		}
	}
}

var _ = strings.Contains
var _ = kb.Enter
var _ = input.DispatchMouseEvent

func TestComparedPage(t *testing.T) {
	a, b := changed(t)
	c := comparedModels(t, a, b)
	withData(c, 13)
	p := open(t, browser(t), comparedPage(c, picture))
	p.screenshots("full")
}
