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

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/performance"
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
	var choice report.CompareChoice
	c := report.NewCompared(report.NewComparedSide(a.File, a), report.NewComparedSide(b.File, b), choice)
	c.SetDelta(d, choice)
	c.Judge(choice)
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
	choice := report.CompareChoice{Ignore: []string{report.AspectNames}, Data: true}
	c.Ignored = choice.Ignore
	c.Judge(choice)
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

// reviewRows lists the operators in sight: sign, A and B.
func (p *page) reviewRows() []string {
	p.t.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("table.review tr.op")].filter(r => r.offsetParent).map(r => [r.querySelector(".open b"), ...r.querySelectorAll(".side")].map(e => e.querySelector("bdi")?.textContent ?? e.textContent).join("|"))`)
}

func (p *page) texts(selector string) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll(%q)].filter(e => e.offsetParent).map(e => e.textContent.trim())`, selector))
}

func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.textContent ?? "nothing"`, selector))
}

// over moves the pointer to a place on an element, in pixels from its corner.
func (p *page) over(selector string, x, y float64) {
	p.t.Helper()
	eval[bool](p, fmt.Sprintf(`(document.querySelector(%q).scrollIntoView({ block: "center" }), new Promise(done => setTimeout(() => done(true), 60)))`, selector))
	at := eval[[]float64](p, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return [r.x, r.y]; })()`, selector))
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0]+x, at[1]+y))
}

func TestComparedPage(t *testing.T) {
	a, b := changed(t)
	c := comparedModels(t, a, b)
	withData(c, 13)
	pics, err := report.NewComparedPictures(t.Context(), c.Answers, picture)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, browser(t), comparedPage(c, pics))
	for _, test := range []struct {
		name string
		run  func(*page, *report.Compared)
	}{{"head", testComparedHead}, {"review", testReview}, {"weights", testComparedWeights}, {"filters", testFilterMaps}, {"answers", testAnswers}, {"activations", testActivations}, {"statistics", testComparedStatistics}, {"widths", testComparedWidths}} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			defer func() { p.t = t }()
			test.run(p, c)
		})
	}
	p.t = t
	p.screenshots("full")
}

func testComparedHead(p *page, c *report.Compared) {
	if got, want := p.text(".verdict"), "They differ: structure ("; !strings.HasPrefix(got, want) {
		p.t.Errorf("the verdict is %q, want %q", got, want)
	}
	if got := strings.Join(p.texts(".aspects li"), ", "); got != "\u2260 metadata differs, does not count, \u2013 names left out, = writing same, = interface same, \u2260 structure differs, \u2260 weights differs, \u2260 filters differs, \u2260 answers differs, \u2260 activations differs, does not count, \u2260 statistics differs, does not count" {
		p.t.Errorf("aspects are %s", got)
	}
	if got := strings.Join(p.texts(".facts tr.differs th"), ", "); got != "size, parameters, MACs, producer name, metadata edited, preprocessing" {
		p.t.Errorf("the facts that differ are %s", got)
	}
	// Every link of the head leads somewhere.
	if got := eval[[]string](p, `[...document.querySelectorAll(".compared a")].map(a => a.getAttribute("href")).filter(h => !document.querySelector(h))`); len(got) > 0 {
		p.t.Errorf("links without a target: %v", got)
	}
}

func testReview(p *page, c *report.Compared) {
	rows := p.reviewRows()
	all := strings.Join(rows, "\n")
	// What B added stands where B runs it, what was removed where A did.
	want := "=|features.40|features.40\n-|features.42|\n=|features.43|features.43\n+||/squash\n=|/Flatten|/Flatten\n=|classifier|classifier"
	if !strings.HasSuffix(all, want) {
		p.t.Errorf("the review ends with\n%s\nwant\n%s", all, want)
	}
	if !strings.Contains(all, "~|features.33|features.33") {
		p.t.Errorf("the changed pooling is missing:\n%s", all)
	}
	if got := p.texts("tr.op.changed .changes"); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "operator") && strings.Contains(s, "AveragePool") }) {
		p.t.Errorf("changes are %q", got)
	}
	d := c.Delta.Nodes[slices.IndexFunc(c.Delta.Nodes, func(n delta.NodeDelta) bool {
		return n.A != nil && strings.Contains(n.A.Name, diluted+"/")
	})]
	weights := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll("tr.op")].find(r => r.textContent.includes(%q)).querySelector(".weights").textContent`, diluted))
	for _, w := range []string{"weight", fmt.Sprintf("rel L2 %.4g", *d.Tensors[0].Values.RelL2), fmt.Sprintf("+%d zeros", d.Tensors[0].Values.NewZeros)} {
		if !strings.Contains(weights, w) {
			p.t.Errorf("the weights of %s are told as %q, without %q", diluted, weights, w)
		}
	}
	// A row opens and shuts, by the button with the keyboard, too.
	row := fmt.Sprintf(`[...document.querySelectorAll("tr.op")].find(r => r.textContent.includes(%q))`, diluted)
	eval[bool](p, row+`.querySelector(".open").focus() ?? true`)
	p.do(chromedp.KeyEvent(kb.Enter))
	for _, w := range []string{"largest difference", "the same to", "std", "numbers compared", "in the file"} {
		if got := eval[string](p, row+`.nextElementSibling.textContent`); !strings.Contains(got, w) {
			p.t.Errorf("the details are %q, without %q", got, w)
		}
	}
	if got := eval[string](p, row+`.querySelector(".open").getAttribute("aria-expanded")`); got != "true" {
		p.t.Error("the open row says it is shut")
	}
	// From its details to its map.
	eval[bool](p, `document.querySelector(".detailed button").click() ?? true`)
	if got := eval[string](p, `document.activeElement.closest(".fl").querySelector(".lname").textContent`); got != diluted {
		p.t.Errorf("the details lead to the map of %q", got)
	}
	eval[bool](p, row+`.querySelector(".open").click() ?? true`)
	if got := eval[int](p, `document.querySelectorAll("tr.detail").length`); got != 0 {
		p.t.Error("the row does not shut")
	}
	p.choose(".reviewsearch", "squash")
	if got := p.reviewRows(); len(got) != 1 || got[0] != "+||/squash" {
		p.t.Errorf("a search for squash finds %v", got)
	}
	if got := p.text(".reviewfound"); !strings.HasPrefix(got, "1 of ") {
		p.t.Errorf("the search says %q", got)
	}
	p.choose(".reviewsearch", "")
	if got := p.reviewRows(); len(got) != len(rows) {
		p.t.Errorf("%d rows after the search, %d before", len(got), len(rows))
	}
}

func testComparedWeights(p *page, c *report.Compared) {
	if got := len(p.texts(".grid.weights tbody tr")); got != c.Delta.Totals.TensorsDiffer {
		p.t.Errorf("%d tensors are listed, %d differ", got, c.Delta.Totals.TensorsDiffer)
	}
	p.click(".grid.weights thead th:nth-child(6) button")
	got := eval[[]float64](p, `[...document.querySelectorAll(".grid.weights tbody tr")].map(r => Number(r.cells[5].dataset.v))`)
	if !slices.IsSortedFunc(got, func(x, y float64) int { return int(math.Copysign(1, y-x)) }) || got[0] < 0.1 {
		p.t.Errorf("sorted by rel L2: %v", got)
	}
	name := p.text(".grid.weights .goto")
	p.click(".grid.weights .goto")
	if got := p.text("tr.op.at .side bdi"); got != name {
		p.t.Errorf("%s leads to %s", name, got)
	}
	eval[bool](p, `document.querySelector("tr.op.at .open").click() ?? true`)
}

// strip returns where the cells of a layer's map are: left edge, width, and the
// middle of the strips, in pixels.
func (p *page) strip(layer string) (canvas string, x0, cell, yA, yB float64) {
	p.t.Helper()
	index := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll(".fl")].find(f => f.querySelector(".lname").textContent === %q).dataset.layer`, layer))
	canvas = fmt.Sprintf(`.fl[data-layer="%s"] canvas`, index)
	p.over(canvas, 1, 1)
	p.until("the strip is drawn", func() bool { return eval[bool](p, fmt.Sprintf(`!!document.querySelector('%s').dataset.grid`, canvas)) })
	g := eval[[]float64](p, fmt.Sprintf(`(() => { const g = JSON.parse(document.querySelector('%s').dataset.grid); return [g.x0, g.cell, g.h / 2, g.yB + g.h / 2].map(v => v / g.dpr); })()`, canvas))
	return canvas, g[0], g[1], g[2], g[3]
}

func testFilterMaps(p *page, c *report.Compared) {
	told := func(layer string, filter int, inB bool) string {
		canvas, x0, cell, yA, yB := p.strip(layer)
		y := yA
		if inB {
			y = yB
		}
		p.over(canvas, x0+(float64(filter)+0.4)*cell, y)
		return p.text(".filtered")
	}
	filters := func(layer string) *delta.FilterDelta {
		for _, n := range c.Delta.Nodes {
			if n.A != nil && strings.Contains(n.A.Name, layer+"/") && n.Filters != nil {
				return n.Filters
			}
		}
		p.t.Fatalf("no filters of %s", layer)
		return nil
	}
	// Every filter of the permuted layer, from both sides.
	for _, f := range filters(permuted).Filters {
		want := fmt.Sprintf("%s: A %d \u2192 B %d: moved, similarity 1", permuted, *f.From, *f.To)
		for _, inB := range []bool{false, true} {
			i := *f.From
			if inB {
				i = *f.To
			}
			if got := told(permuted, i, inB); got != want {
				p.t.Errorf("filter %d (of B: %v) is told as %q, want %q", i, inB, got, want)
			}
		}
	}
	for _, test := range []struct {
		layer  string
		filter int
		inB    bool
		want   string
	}{
		{scaled, 3, false, scaled + ": A 3 \u2192 B 3: scaled, similarity 1, scale 2"},
		{scaled, 4, false, scaled + ": A 4 \u2192 B 4: kept, in place"},
		{pruned, 5, false, pruned + ": A 5: gone"},
		{pruned, 31, false, pruned + ": A 31 \u2192 B 28: kept, similarity 1"},
		{pruned, 28, true, pruned + ": A 31 \u2192 B 28: kept, similarity 1"},
		{grown, 65, true, grown + ": B 65: new"},
	} {
		if got := told(test.layer, test.filter, test.inB); !strings.HasPrefix(got, test.want) {
			p.t.Errorf("filter %d of %s (of B: %v) is told as %q, want %q", test.filter, test.layer, test.inB, got, test.want)
		}
	}
	// Colours say the same: in the middle of the cell, of a hollow one at its edge.
	colour := func(layer string, filter int, inB bool, edge bool) string {
		canvas, x0, cell, yA, yB := p.strip(layer)
		p.over("h1", 1, 1)
		y, x := yA+4, x0+(float64(filter)+0.4)*cell
		if inB {
			y = yB + 4
		}
		if edge {
			x, y = math.Round(x0+float64(filter)*cell), y-2
		}
		return eval[string](p, fmt.Sprintf(`(() => {
			const c = document.querySelector('%s'), g = new OffscreenCanvas(c.width, c.height).getContext("2d", { willReadFrequently: true });
			g.drawImage(c, 0, 0);
			const d = devicePixelRatio, at = [...g.getImageData(%v * d, %v * d, 1, 1).data].slice(0, 3), style = getComputedStyle(document.querySelector(".compared"));
			const hex = "#" + at.map(v => v.toString(16).padStart(2, "0")).join("");
			return ["kept", "moved", "scaled", "altered", "gone", "new"].find(n => style.getPropertyValue("--" + n).trim() === hex) ?? hex;
		})()`, canvas, x, y))
	}
	for _, test := range []struct {
		layer     string
		filter    int
		inB, edge bool
		want      string
	}{{permuted, 0, false, false, "moved"}, {scaled, 3, true, false, "scaled"}, {scaled, 4, false, false, "kept"}, {tuned, 7, false, false, "altered"}, {pruned, 9, false, true, "gone"}, {grown, 64, true, true, "new"}} {
		if got := colour(test.layer, test.filter, test.inB, test.edge); got != test.want {
			p.t.Errorf("filter %d of %s is drawn as %s, want %s", test.filter, test.layer, got, test.want)
		}
	}
	// The keyboard goes the same ways.
	canvas, _, _, _, _ := p.strip(pruned)
	p.over("h1", 1, 1)
	p.do(chromedp.Focus(chromedp.CSS(canvas)), chromedp.KeyEvent(kb.ArrowRight))
	for range 6 {
		p.do(chromedp.KeyEvent(kb.ArrowRight))
	}
	if got := p.text(".filtered"); !strings.HasPrefix(got, pruned+": A 6 \u2192 B 5: kept") {
		p.t.Errorf("after 7 arrows the page tells %q", got)
	}
	p.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowLeft))
	if got := p.text(".filtered"); !strings.HasPrefix(got, pruned+": A 4 \u2192 B 4: kept, in place") {
		p.t.Errorf("down and left the page tells %q", got)
	}
	// The list of a layer's filters sorts and is searched.
	layer := strings.TrimSuffix(canvas, " canvas")
	p.click(layer + " .lname")
	if got := eval[int](p, fmt.Sprintf(`document.querySelectorAll('%s tbody tr').length`, layer)); got != 32 {
		p.t.Errorf("%d filters are listed, want 32", got)
	}
	p.choose(layer+" input", "gone")
	if got := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll('%s tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent).join(" ")`, layer)); got != strings.Trim(fmt.Sprint(prunedFilters), "[]") {
		p.t.Errorf("the filters that are gone are %s", got)
	}
	p.click(layer + " thead th button")
	if got := eval[string](p, fmt.Sprintf(`[...document.querySelectorAll('%s tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent).join(" ")`, layer)); got != "30 9 5" {
		p.t.Errorf("sorted down the filters that are gone are %s", got)
	}
	p.click(layer + " .lname")
	// Layers without change are shown on demand.
	before := len(p.texts(".fl .lname"))
	p.click(".showquiet")
	if got := len(p.texts(".fl .lname")); got <= before {
		p.t.Errorf("%d layers before, %d after", before, got)
	}
}

func testAnswers(p *page, c *report.Compared) {
	if got := strings.Join(p.texts(".square td b"), " "); got != "300 34 8 58" {
		p.t.Errorf("right and wrong answers are %s", got)
	}
	by := eval[[]float64](p, `[...document.querySelectorAll(".grid.labels tbody tr")].map(r => Number(r.cells[4].dataset.v))`)
	if len(by) != len(c.Answers.PerLabel) || !slices.IsSorted(by) || by[0] >= 0 {
		p.t.Errorf("changes of the labels are %v", by)
	}
	// Bars of losses end in the middle, those of gains begin there.
	bars := eval[[]float64](p, `[...document.querySelectorAll(".grid.labels .d")].flatMap(b => { const c = b.closest("td").getBoundingClientRect(), r = b.getBoundingClientRect(), middle = c.x + c.width / 2; return [Math.abs((b.classList.contains("minus") ? r.right : r.left) - middle), Math.sign(Number(b.closest("td").dataset.v)) * (b.classList.contains("plus") ? 1 : -1)]; })`)
	if len(bars) < 10 {
		p.t.Fatalf("%d bars", len(bars)/2)
	}
	for i := 0; i < len(bars); i += 2 {
		if bars[i] > 1.5 || bars[i+1] != 1 {
			p.t.Errorf("bar %d is %v pixels off the middle, its side times its sign %v", i/2, bars[i], bars[i+1])
		}
	}
	if got := len(p.texts(".grid.flips tbody tr")); got != len(c.Answers.Flips) {
		p.t.Errorf("%d flips are listed", got)
	}
	for kind, want := range map[string]int{"lost": 34, "won": 8, "neither": 6, "": 48} {
		p.choose(".grid.flips select", kind)
		if got := eval[int](p, `[...document.querySelectorAll(".grid.flips tbody tr")].filter(r => !r.hidden).length`); got != want {
			p.t.Errorf("%d flips of kind %q, want %d", got, kind, want)
		}
	}
	eval[bool](p, `(document.querySelector(".thumb").scrollIntoView(), true)`)
	p.until("a picture is drawn", func() bool { return eval[bool](p, `!!document.querySelector(".thumb").dataset.drawn`) })
	got := eval[[]int](p, `(() => { const c = document.querySelector(".thumb"); const g = new OffscreenCanvas(c.width, c.height).getContext("2d", { willReadFrequently: true }); g.drawImage(c, 0, 0); return [Number(c.dataset.sample), Number(c.dataset.drawn), ...g.getImageData(3, 2, 1, 1).data]; })()`)
	if got[0] != got[1] || math.Abs(float64(got[2]-7*got[0]%256)) > 12 {
		p.t.Errorf("the first picture is %v", got)
	}
}

func testActivations(p *page, c *report.Compared) {
	l := c.Likeness
	at := func(i, j int) {
		g := eval[[]float64](p, `(() => { const g = JSON.parse(document.querySelector("canvas.heat").dataset.grid); return [g.x0, g.y0, g.side].map(v => v / g.dpr); })()`)
		p.over("canvas.heat", g[0]+(float64(j)+0.5)*g[2], g[1]+(float64(i)+0.5)*g[2])
	}
	for _, cell := range [][2]int{{0, 0}, {7, 3}, {12, 11}} {
		at(cell[0], cell[1])
		want := fmt.Sprintf("CKA %.4f, debiased %.4f", *l.CKA[cell[0]][cell[1]], *l.Debiased[cell[0]][cell[1]])
		if got := p.text(".heated"); !strings.Contains(got, want) || !strings.Contains(got, l.A[cell[0]].Layer) || !strings.Contains(got, l.B[cell[1]].Layer) {
			p.t.Errorf("cell %v is told as %q, want %q", cell, got, want)
		}
	}
	at(4, 2)
	if got := p.text(".heated"); !strings.Contains(got, "not defined") || !strings.Contains(got, "the same for all samples") {
		p.t.Errorf("a cell without a value is told as %q", got)
	}
	at(6, 5)
	if got := p.text(".heated"); !strings.Contains(got, "counterparts, rel L2") {
		p.t.Errorf("counterparts are told as %q", got)
	}
	// The switch changes the picture.
	colour := `(() => { const c = document.querySelector("canvas.heat"), m = JSON.parse(c.dataset.grid), g = new OffscreenCanvas(c.width, c.height).getContext("2d", { willReadFrequently: true }); g.drawImage(c, 0, 0); return [...g.getImageData(m.x0 + 4.2 * m.side, m.y0 + 0.2 * m.side, 1, 1).data].join(); })()`
	p.over("h1", 1, 1)
	before := eval[string](p, colour)
	p.click(`[data-cka="debiased"]`)
	if eval[string](p, colour) == before {
		p.t.Error("debiased looks like CKA")
	}
	p.click(`[data-cka="cka"]`)
	if eval[string](p, colour) != before {
		p.t.Error("CKA does not come back")
	}
	parting := l.A[l.Layers[*l.Parting].A].Layer
	if got := p.text(".distanced"); !strings.Contains(got, "The first that parts is "+parting) {
		p.t.Errorf("the distances are told as %q", got)
	}
	// Points are as many as there are distances, and rise.
	ys := eval[[]float64](p, `[...document.querySelectorAll(".distance .point")].map(c => Number(c.getAttribute("cy")))`)
	if len(ys) != len(l.Layers)-1 || !slices.IsSortedFunc(ys, func(x, y float64) int { return int(math.Copysign(1, y-x)) }) {
		p.t.Errorf("points are at %v", ys)
	}
	if got := eval[int](p, `[...document.querySelectorAll(".distance .point")].findIndex(c => c.classList.contains("on"))`); got != *l.Parting-1 {
		p.t.Errorf("point %d is marked", got)
	}
}

func testComparedStatistics(p *page, c *report.Compared) {
	if got := eval[int](p, `document.querySelectorAll(".curves figure").length`); got != 2 {
		p.t.Errorf("%d curves at first", got)
	}
	n := len(c.Statistics.Layers)
	if got := eval[[]int](p, `[document.querySelectorAll(".curves figure:first-child circle.point").length, document.querySelectorAll(".curves figure:first-child rect.point.other").length]`); got[0] != n || got[1] != n {
		p.t.Errorf("%v points of %d layers", got, n)
	}
	// A layer without SNR in B has no point there.
	if got := eval[int](p, `document.querySelectorAll(".curves figure:nth-child(2) rect.point.other").length`); got != n-1 {
		p.t.Errorf("%d points of SNR in B, want %d", got, n-1)
	}
	p.click(".chips button:nth-child(3)")
	if got := eval[int](p, `document.querySelectorAll(".curves figure").length`); got != 3 {
		p.t.Errorf("%d curves after another was asked for", got)
	}
	filters := 0
	for _, l := range c.Statistics.Layers {
		filters += len(l.Differ)
	}
	if got := eval[int](p, `document.querySelectorAll(".labelsets tbody tr").length`); got != filters {
		p.t.Errorf("%d filters are listed, want %d", got, filters)
	}
	p.choose(".labelsets input", "-glyph K")
	if got := p.texts(".labelsets tbody tr"); len(got) == 0 || len(got) == filters || !strings.Contains(got[0], "-glyph K") {
		p.t.Errorf("a search for a lost label finds %d rows, the first %q", len(got), got[:min(1, len(got))])
	}
	p.choose(".labelsets input", "")
}

// wide lists the elements that reach over the edge, for a message.
func (p *page) wide(w int64) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > %d && !e.closest(".scroll, .heatbox")).slice(0, 8).map(e => e.tagName + "." + (e.className.baseVal ?? e.className) + " " + Math.round(e.getBoundingClientRect().right))`, w))
}

func testComparedWidths(p *page, _ *report.Compared) {
	for _, w := range []int64{1400, 1024, 800, 480} {
		p.do(chromedp.EmulateViewport(w, 900), chromedp.Sleep(150*time.Millisecond))
		if got := eval[int64](p, `document.documentElement.scrollWidth`); got > w {
			p.t.Errorf("at %d pixels the page is %d wide: %v", w, got, p.wide(w))
		}
		// No drawing reaches out of its box, and no JSON is shown.
		if got := eval[[]string](p, `[...document.querySelectorAll(".compared canvas.strip, .compared svg.plot")].filter(c => c.offsetParent !== null && c.getBoundingClientRect().right > document.documentElement.clientWidth).map(c => c.className.baseVal ?? c.className)`); len(got) > 0 {
			p.t.Errorf("at %d pixels %v reach out", w, got)
		}
		if got := eval[int](p, `[...document.querySelectorAll("script")].filter(s => s.getClientRects().length).length`); got != 0 {
			p.t.Errorf("at %d pixels %d scripts are shown", w, got)
		}
	}
	p.do(chromedp.EmulateViewport(1280, 900))
}

// Models that differ in writing alone: one run, folded.
func TestComparedFolds(t *testing.T) {
	a, b := editable(t, "efficientnet-b0-glyphs20.onnx").open("folded.onnx"), editable(t, "efficientnet-b0-bn-glyphs20.onnx").open("unfolded.onnx")
	c := comparedModels(t, a, b)
	p := open(t, browser(t), comparedPage(c, nil))
	if got := p.text(".verdict"); got != "The same but for rounding" && !strings.HasPrefix(got, "The same to ") {
		t.Errorf("the verdict is %q", got)
	}
	if got := p.reviewRows(); len(got) != 0 {
		t.Errorf("%d rows are in sight", len(got))
	}
	n := len(c.Delta.Nodes)
	if got := p.text(".unfold"); !strings.Contains(got, fmt.Sprintf("%d unchanged operators: Conv", n)) || !strings.Contains(got, "written otherwise") || !strings.Contains(got, "within tolerance, the same to") {
		t.Errorf("the run is told as %q", got)
	}
	p.click(".unfold")
	if got := p.reviewRows(); len(got) != n {
		t.Errorf("%d rows of %d are in sight", len(got), n)
	}
	p.click(".unfold")
	// A search looks into what is folded.
	p.choose(".reviewsearch", "sigmoid")
	if got := p.reviewRows(); len(got) == 0 || len(got) == n {
		t.Errorf("a search finds %d of %d", len(got), n)
	}
	p.choose(".reviewsearch", "")
	if got := p.reviewRows(); len(got) != 0 {
		t.Errorf("after the search %d rows are in sight", len(got))
	}
	// A tensor leads into the run.
	p.click(".grid.weights .goto")
	if got := len(p.texts("tr.op.at")); got != 1 {
		t.Errorf("%d operators are marked", got)
	}
	p.screenshots("folds")
}

func TestComparedSame(t *testing.T) {
	e := editable(t, "vgg16-glyphs20.onnx")
	c := comparedModels(t, e.open("a.onnx"), e.open("b.onnx"))
	p := open(t, browser(t), comparedPage(c, nil))
	if got := p.text(".verdict"); got != "The same" {
		t.Errorf("the verdict is %q", got)
	}
	if got := p.text("#weights + .note"); !strings.Contains(got, "No tensor differs") {
		t.Errorf("of weights the page says %q", got)
	}
	p.screenshots("same")
}

// Two models that have nothing in common, with results that are empty.
func TestComparedNothingInCommon(t *testing.T) {
	chain := func(nodes int, name, file string) *inspect.Model {
		b, err := proto.Marshal(Several(nodes, name))
		if err != nil {
			t.Fatal(err)
		}
		return openBytes(t, b, file)
	}
	c := comparedModels(t, editable(t, "vgg16-glyphs20.onnx").open("vgg.onnx"), chain(1, "r", "chain.onnx"))
	c.Answers = &probe.Answers{P: 1}
	c.Likeness = &likeness.Likeness{Tolerance: 1e-4}
	c.Statistics = &report.StatisticsDelta{Theta: 0.3, Unpaired: []probe.Skip{{Layer: "a", Reason: "no counterpart"}}}
	p := open(t, browser(t), comparedPage(c, nil))
	for _, want := range []string{"No sample is answered differently", "No layer of A has a counterpart", "No layer was measured in both"} {
		if got := eval[string](p, `document.body.innerText`); !strings.Contains(got, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	p.screenshots("nothing")
	d := comparedModels(t, chain(0, "", "a.onnx"), chain(0, "", "b.onnx"))
	q := open(t, browser(t), comparedPage(d, nil))
	if got := eval[string](q, `document.body.innerText`); !strings.Contains(got, "Neither model has an operator") {
		t.Errorf("an empty graph is told as %q", got)
	}
}

// Names that would run if they were not escaped do nothing but show, and neither
// their length nor their direction breaks the page.
func TestComparedHostileNames(t *testing.T) {
	long := strings.Repeat("long_", 2000)
	e := editable(t, "vgg16-glyphs20.onnx")
	a := e.open(Hostile + ".onnx")
	for i, n := range e.Graph.Node {
		switch i % 3 {
		case 0:
			n.Name = proto.String(Hostile)
		case 1:
			n.Name = proto.String(long)
		case 2:
			n.Name = proto.String("\u202eabc\u0627\u0644\u0639\u0631\u0628\u064a\u0629\x00")
		}
		for k, in := range n.Input {
			if strings.HasPrefix(in, "features.") {
				for _, p := range e.Graph.Initializer {
					if p.GetName() == in {
						p.Name = proto.String(Hostile + in)
					}
				}
				n.Input[k] = Hostile + in
			}
		}
	}
	e.change(Hostile+"features.3.weight", func(_ int, v float32) float32 { return v + 1 })
	e.ProducerName = proto.String(Hostile + long)
	e.MetadataProps = append(e.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String(Hostile), Value: proto.String(long)})
	c := comparedModels(t, a, e.open(long+".onnx"))
	withData(c, 13)
	for i := range c.Data.Labels {
		c.Data.Labels[i] = []string{Hostile, long, "\u202e\u05d0\u05d1"}[i%3]
	}
	for i := range c.Likeness.A {
		c.Likeness.A[i].Layer = Hostile
	}
	for i := range c.Statistics.Layers {
		c.Statistics.Layers[i].Layer, c.Statistics.Layers[i].LayerB = Hostile, long
	}
	for i := range c.Answers.Flips {
		c.Answers.Flips[i].ID = Hostile + long
	}
	c.Warnings, c.Only, c.Definitions = []string{Hostile}, []string{Hostile, report.AspectWeights}, []string{Hostile}
	c.Description = &report.DescriptionDelta{Changes: []delta.Change{{What: Hostile, Name: Hostile, From: long, To: Hostile}}, Layers: []report.DescribedChange{{Kind: delta.Changed, A: Hostile, B: long, Op: Hostile, Changes: []delta.Change{{What: Hostile, From: Hostile}}}}}
	p := open(t, browser(t), comparedPage(c, nil))
	if got := eval[int](p, `document.querySelectorAll("img").length + document.querySelectorAll("script:not([type])").length`); got != 1 {
		t.Errorf("%d images and scripts that run, want the page's own", got)
	}
	eval[bool](p, `(document.querySelectorAll(".op .open, .lname").forEach(b => b.click()), true)`)
	if got := eval[int](p, `document.querySelectorAll("img, .detail script").length`); got != 0 {
		t.Error("the details hold an image")
	}
	for _, w := range []int64{1280, 480} {
		p.do(chromedp.EmulateViewport(w, 900), chromedp.Sleep(150*time.Millisecond))
		if got := eval[int64](p, `document.documentElement.scrollWidth`); got > w {
			t.Errorf("at %d pixels the page is %d wide: %v", w, got, p.wide(w))
		}
	}
	p.screenshots("hostile")
}

// opened opens a page twice, and returns how long the second time keeps a processor
// busy, in seconds.
func opened(t *testing.T, c *report.Compared) (p *page, busy float64) {
	t.Helper()
	p = open(t, browser(t), comparedPage(c, nil))
	ready := func() bool { return eval[bool](p, `!!document.querySelector(".compared")?.dataset.ready`) }
	p.until("the page is ready", ready)
	p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
		return err
	}), chromedp.Reload())
	p.until("the page is ready again", ready)
	p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		r, err := chromedp.Call(ctx, performance.GetMetrics, cdp.Empty{})
		for _, m := range r.Metrics {
			if m.Name == "TaskDuration" {
				busy = m.Value
			}
		}
		return err
	}))
	return p, busy
}

// A wide model of 50 layers with 1,280 filters each, all of them changed, moved or
// gone, 150 layers in the heat map, and label sets that all changed.
func TestComparedWide(t *testing.T) {
	const layers, filters, taps = 50, 1280, 150
	r := rand.New(rand.NewPCG(5, 6))
	c := report.NewCompared(report.ComparedSide{File: "a.onnx"}, report.ComparedSide{File: "b.onnx"}, report.CompareChoice{})
	d := &delta.Delta{Similarity: 0.5}
	c.Statistics = &report.StatisticsDelta{Theta: 0.3}
	for i := range layers {
		node := &delta.Node{Name: fmt.Sprintf("/layer%d/Conv", i), Op: "Conv", Index: i}
		f := &delta.FilterDelta{CountA: filters, CountB: filters}
		x := report.StatisticsPair{Op: "Conv", LayerB: node.Name}
		x.Layer, x.Filters = node.Name, filters
		to := r.Perm(filters)
		for k := range filters {
			one := delta.Filter{Kind: delta.FilterMoved, From: &k, To: &to[k], Similarity: ptr(r.Float64())}
			switch k % 4 {
			case 1:
				one.Kind = delta.FilterChanged
			case 2:
				one.Kind, one.To = delta.FilterGone, nil
			case 3:
				one.Kind, one.Scale = delta.FilterScaled, ptr(2.5)
			}
			f.Filters = append(f.Filters, one)
			x.Differ = append(x.Differ, probe.FilterDifference{Filter: k, Gained: make([]probe.LabelChange, 1+k%5), Lost: make([]probe.LabelChange, 2)})
		}
		d.Nodes = append(d.Nodes, delta.NodeDelta{Kind: delta.Changed, A: node, B: node, Filters: f})
		c.Statistics.Layers = append(c.Statistics.Layers, x)
	}
	c.Delta = d
	l := &likeness.Likeness{Samples: 1, Tolerance: 1e-3}
	for i := range taps {
		tap := likeness.Tap{Layer: fmt.Sprint("layer", i), Op: "Conv"}
		l.A, l.B = append(l.A, tap), append(l.B, tap)
		var row []*float64
		for j := range taps {
			row = append(row, ptr(math.Exp(-math.Abs(float64(i-j))/20)))
		}
		l.CKA, l.Debiased = append(l.CKA, row), append(l.Debiased, row)
		l.Layers = append(l.Layers, likeness.Layer{A: i, B: i, RelL2: ptr(float64(i) / taps)})
	}
	c.Likeness = l
	var page bytes.Buffer
	if err := report.WriteComparedHTML(&page, c, nil); err != nil {
		t.Fatal(err)
	}
	p, busy := opened(t, c)
	t.Logf("%d layers of %d filters: %d bytes, opened in %.1f s of a processor", layers, filters, page.Len(), busy)
	if page.Len() > 16<<20 || busy > 20 {
		t.Errorf("the page takes %d bytes and %.1f s to open", page.Len(), busy)
	}
	canvas, x0, cell, yA, _ := p.strip("layer49")
	p.over(canvas, x0+100.5*cell, yA)
	if got := p.text(".filtered"); !strings.Contains(got, "layer49: A 100 \u2192 B ") || cell >= 1.5 {
		t.Errorf("filter 100 is told as %q, cells are %.2f pixels", got, cell)
	}
	// Nothing but what is in sight is drawn at first.
	if got := eval[int](p, `[...document.querySelectorAll("canvas.strip")].filter(c => c.dataset.grid).length`); got == 0 || got > layers-5 {
		t.Errorf("%d strips are drawn", got)
	}
	p.screenshots("wide")
}

// Many operators, of which many have changed, still make a page that opens.
func TestComparedLarge(t *testing.T) {
	m := Deep(620, true)
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	a := openBytes(t, b, "deep.onnx")
	for i, w := range m.Graph.Initializer {
		if i%2 == 0 {
			for k := range w.RawData {
				if k%4 == 3 {
					w.RawData[k] = 0x3f
				}
			}
		}
	}
	if b, err = proto.Marshal(m); err != nil {
		t.Fatal(err)
	}
	c := comparedModels(t, a, openBytes(t, b, "deeper.onnx"))
	if n := len(c.Delta.Nodes); n < 4900 {
		t.Fatalf("only %d operators", n)
	}
	var page bytes.Buffer
	begin := time.Now()
	if err := report.WriteComparedHTML(&page, c, nil); err != nil {
		t.Fatal(err)
	}
	wrote := time.Since(begin)
	if f := os.Getenv("FILTERLENS_SCREENSHOTS"); f != "" {
		os.WriteFile(filepath.Join(f, "large.html"), page.Bytes(), 0o600)
	}
	p, busy := opened(t, c)
	t.Logf("%d operators: %d bytes, written in %v, opened in %.1f s of a processor", len(c.Delta.Nodes), page.Len(), wrote, busy)
	if page.Len() > 16<<20 || busy > 15 {
		t.Errorf("the page takes %d bytes and %.1f s to open", page.Len(), busy)
	}
	p.choose(".reviewsearch", "layer3.7/conv1")
	if got := p.reviewRows(); len(got) < 1 || len(got) > 4 {
		t.Errorf("a search finds %v", got)
	}
}
