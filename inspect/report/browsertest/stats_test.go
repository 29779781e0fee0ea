package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report"
)

const theta = 0.3

// measured returns a measurement with the given layers of field matrices, K x K
// each, and the pictures that a page of it shows.
func measured(t testing.TB, labels []string, layers ...[][]float32) (*probe.Result, *report.Pictures) {
	t.Helper()
	k := len(labels)
	r := &probe.Result{Schema: probe.Schema, Model: "net.onnx", Theta: theta, Accuracy: 0.7, Chance: 1 / float64(k), Data: probe.Data{Path: "pictures", Format: "image folder", Labels: labels, Preprocess: "unit"}}
	p := report.NewPictures(0)
	for n, matrices := range layers {
		// With P = K and label means that are the identity, the weights are the fields.
		x := probe.Fields{K: k, F: len(matrices), P: k, W: make([]float32, k*len(matrices)*k), Means: make([]float32, k*len(matrices)*k)}
		for f, m := range matrices {
			for i := range k {
				x.Means[(i*x.F+f)*k+i] = 1
				for j := range k {
					x.W[(j*x.F+f)*k+i] = m[i*k+j]
				}
			}
		}
		addLayer(t, r, p, x, fmt.Sprintf("/features/features.%d/Conv", n))
	}
	return r, p
}

func addLayer(t testing.TB, r *probe.Result, p *report.Pictures, x probe.Fields, name string) {
	t.Helper()
	filters, err := afcc.AnalyzeLayer(context.Background(), x.W, x.Means, x.K, x.F, x.P, afcc.Options{Theta: r.Theta})
	if err != nil {
		t.Fatal(err)
	}
	n := len(r.Layers)
	l := probe.Layer{Tap: probe.Tap{Layers: []string{name}, Tensor: fmt.Sprint("t", n), Op: "Conv", Filters: x.F, Height: 1, Width: x.P, Pool: 1},
		Head: "trained", Accuracy: 0.2 * float64(n+1), Filters: filters, Stats: afcc.Summarize(filters, x.K, r.Theta)}
	for _, th := range []float64{0.1, 0.3, 0.6} {
		s := l.Stats
		s.Theta = th
		l.Sweep = append(l.Sweep, s)
	}
	for f := range filters {
		var top []probe.TopSample
		for s := range 3 {
			top = append(top, probe.TopSample{Sample: 10*f + s, Label: (f + s) % x.K, Activation: 3 - float64(s)})
		}
		l.Top = append(l.Top, top)
	}
	if err := p.Add(&l, x); err != nil {
		t.Fatal(err)
	}
	r.Layers = append(r.Layers, l)
}

func addSamples(t testing.TB, p *report.Pictures) {
	t.Helper()
	err := p.AddSamples(context.Background(), func(s int) (image.Image, error) {
		m := image.NewRGBA(image.Rect(0, 0, 8, 8))
		for i := range 64 {
			m.Set(i%8, i/8, color.RGBA{uint8(s), 200, 0, 255})
		}
		return m, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func statsPage(r *probe.Result, m *report.Model, p *report.Pictures) func(*bytes.Buffer) error {
	return func(b *bytes.Buffer) error { return report.WriteStatsHTML(b, r, m, p) }
}

// worked is the worked example of the method with its labels in another order:
// label i of the example is label at[i] here.
func worked() (m []float32, at []int) {
	example := []float32{
		1.0, 0.8, 0.1, 0.0, 0.2,
		0.6, 0.9, 0.1, 0.35, 0.0,
		0.4, 0.1, 0.5, 0.0, 0.0,
		0.0, 0.2, 0.0, 0.1, 0.6,
		-.5, 0.0, 0.31, 0.0, 0.3,
	}
	at = []int{3, 0, 1, 2, 4}
	m = make([]float32, 25)
	for i := range 5 {
		for j := range 5 {
			m[at[i]*5+at[j]] = example[i*5+j]
		}
	}
	return m, at
}

// until waits for something to become true.
func (p *page) until(what string, ok func() bool) {
	p.t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			p.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ready waits until the page shows that filter.
func (p *page) ready(layer, filter int) {
	p.t.Helper()
	p.until(fmt.Sprintf("the page shows filter %d of layer %d", filter, layer), func() bool {
		return eval[string](p, `document.querySelector(".measured").dataset.ready ?? ""`) == fmt.Sprintf("%d/%d", layer, filter)
	})
}

func (p *page) choose(selector, value string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.value = %q; e.dispatchEvent(new Event(e.tagName === "SELECT" ? "change" : "input")); })()`, selector, value)))
}

// layer chooses a layer and waits for one of its filters.
func (p *page) layer(n int) {
	p.t.Helper()
	p.choose("select.layer", fmt.Sprint(n))
	p.until(fmt.Sprint("the page shows layer ", n), func() bool {
		return strings.HasPrefix(eval[string](p, `document.querySelector(".measured").dataset.ready ?? ""`), fmt.Sprint(n, "/"))
	})
}

func (p *page) filter(layer, f int) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => { const e = document.querySelector(".number"); e.value = %d; e.dispatchEvent(new Event("change")); })()`, f)))
	p.ready(layer, f)
}

// cells reads the colour in the middle of each cell of a matrix, row by row, and
// writes it as the class that has this colour: 3 in a cluster, 2 internal noise,
// 1 external noise, 0 below the threshold. order is that of the labels.
func (p *page) cells() (classes string, order []int) {
	p.t.Helper()
	classes = eval[string](p, `(() => {
		const c = document.querySelector("canvas.clipped"), at = JSON.parse(c.dataset.grid);
		// Reading the canvas of the page often makes the browser complain.
		const g = new OffscreenCanvas(c.width, c.height).getContext("2d", { willReadFrequently: true });
		g.drawImage(c, 0, 0);
		const style = getComputedStyle(document.querySelector(".measured"));
		const hex = (p) => "#" + [0, 1, 2].map(i => p[i].toString(16).padStart(2, "0")).join("");
		const kinds = Object.fromEntries(["card", "external", "internal", "inside"].map((n, i) => { const v = style.getPropertyValue("--" + n).trim(); return [v.length === 4 ? v.replace(/[0-9a-f]/g, "$&$&") : v, i]; }));
		let out = "";
		for (let r = 0; r < at.cells; r++) for (let q = 0; q < at.cells; q++) {
			const p = g.getImageData(at.x0 + Math.floor((q + 0.5) * at.size), at.y0 + Math.floor((r + 0.5) * at.size), 1, 1).data;
			out += kinds[hex(p)] ?? "?";
		}
		return out;
	})()`)
	return classes, eval[[]int](p, `JSON.parse(document.querySelector("canvas.clipped").dataset.grid).order`)
}

// wantCells is what cells must read.
func wantCells(m []float32, k int, f *afcc.Filter, order []int) string {
	cluster := make([]int, k)
	for n, c := range f.Clusters {
		for _, j := range c {
			cluster[j] = n + 1
		}
	}
	var b strings.Builder
	for _, i := range order {
		for _, j := range order {
			class := 0
			if v := m[i*k+j]; f.Max > 0 && v/float32(f.Max) > float32(theta) {
				switch {
				case cluster[i] > 0 && cluster[i] == cluster[j]:
					class = 3
				case cluster[j] > 0:
					class = 2
				default:
					class = 1
				}
			}
			fmt.Fprint(&b, class)
		}
	}
	return b.String()
}

// permutation is [cluster 1, cluster 2, ..., other labels].
func permutation(f *afcc.Filter, k int) []int {
	order := slices.Concat(f.Clusters...)
	for j := range k {
		if !slices.Contains(order, j) {
			order = append(order, j)
		}
	}
	return order
}

// The worked example of the method: clusters {0,1} and {2} stand as diagonal
// blocks, two ones each of internal and of external noise.
func TestWorkedExample(t *testing.T) {
	m, at := worked()
	nan := slices.Clone(m)
	nan[7] = float32(math.NaN())
	labels := make([]string, 5)
	for i, n := range []string{"dog", "wolf", "cat", "cow", "car"} {
		labels[at[i]] = n
	}
	r, pictures := measured(t, labels, [][]float32{make([]float32, 25), m, nan}, [][]float32{m})
	addSamples(t, pictures)
	p := open(t, browser(t), statsPage(r, nil, pictures))
	p.ready(1, 0)
	if got, want := eval[string](p, `[...document.querySelectorAll(".figures li")].map(l => l.querySelector("span").textContent + " " + l.querySelector("b").textContent).slice(0, 4).join(", ")`), "N_c 2, C_s 1.5, d 3, n 4"; got != want {
		t.Errorf("the numbers are %q, want %q", got, want)
	}
	if got := eval[string](p, `[...document.querySelectorAll(".figures small")][3].textContent`); got != "2 internal, 2 external" {
		t.Errorf("the noise is %q", got)
	}
	if got, want := eval[string](p, `[...document.querySelectorAll(".clusters li")].map(l => [...l.querySelectorAll("bdi")].map(b => b.textContent).join(" ")).join(", ")`), "dog wolf, cat"; got != want {
		t.Errorf("the clusters are %q, want %q", got, want)
	}
	p.layer(0)
	p.ready(0, 1)
	p.click(`[data-view="clusters"]`)
	classes, order := p.cells()
	if want := []int{0, 3, 1, 2, 4}; !slices.Equal(order, want) {
		t.Errorf("the order is %v, want %v", order, want)
	}
	// Rows wolf, dog, cat, cow, car: 3 in a cluster, 2 internal, 1 external noise.
	if want := "33010" + "33000" + "02300" + "00001" + "00200"; classes != want {
		t.Errorf("the matrix is %s, want %s", classes, want)
	}
	p.click(`[data-view="labels"]`)
	classes, order = p.cells()
	if want := wantCells(m, 5, &r.Layers[0].Filters[1], []int{0, 1, 2, 3, 4}); classes != want || !slices.IsSorted(order) {
		t.Errorf("by label the matrix is %s in the order %v, want %s", classes, order, want)
	}
	// The values: 0.8 is of dog's images in the output of wolf.
	p.do(chromedp.ScrollIntoView(chromedp.CSS("canvas.field")))
	x, y := p.matrixSpot("canvas.field", at[0], at[1])
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	if got := eval[string](p, `document.querySelector(".fielded").textContent`); !strings.Contains(got, "images of dog → output wolf: 0.8") || !strings.Contains(got, "in cluster 1") {
		t.Errorf("over a field the page says %q", got)
	}
	// A filter without a field above 0 has no cluster, one with NaN no matrix.
	p.filter(0, 0)
	if got := eval[string](p, `document.querySelector(".clusters").textContent`); got != "No cluster: no field is above 0." {
		t.Errorf("a silent filter has %q", got)
	}
	if classes, _ := p.cells(); strings.Trim(classes, "0") != "" {
		t.Errorf("a silent filter passes %s", classes)
	}
	p.filter(0, 2)
	if got := eval[string](p, `document.querySelector(".absent:not([hidden])").textContent + document.querySelector(".matrices").hidden`); !strings.Contains(got, "not finite") || !strings.HasSuffix(got, "true") {
		t.Errorf("a filter with NaN has %q", got)
	}
}

// matrixSpot is the place of row i and column j, as they stand, on the screen.
func (p *page) matrixSpot(selector string, i, j int) (x, y float64) {
	p.t.Helper()
	at := eval[[]float64](p, fmt.Sprintf(`(() => { const c = document.querySelector(%q), r = c.getBoundingClientRect(), g = JSON.parse(c.dataset.grid), d = devicePixelRatio; return [r.x + (g.x0 + (%d + 0.5) * g.size) / d, r.y + (g.y0 + (%d + 0.5) * g.size) / d]; })()`, selector, j, i))
	return at[0], at[1]
}

// randomFields returns weights and means in which each filter knows some labels.
func randomFields(k, f, p int) probe.Fields {
	rng := rand.New(rand.NewPCG(uint64(k), uint64(p)))
	x := probe.Fields{K: k, F: f, P: p, W: make([]float32, k*f*p), Means: make([]float32, k*f*p)}
	for i := range x.W {
		x.W[i], x.Means[i] = float32(rng.NormFloat64()), float32(math.Abs(rng.NormFloat64()))
	}
	for n := range f {
		for range rng.IntN(4) {
			j, q := rng.IntN(k), rng.IntN(p)
			x.W[(j*f+n)*p+q] += 3
			x.Means[(j*f+n)*p+q] += 4
		}
	}
	return x
}

// In both forms of a matrix, each field is on the side of the threshold on which
// afcc sees it.
func TestClippedExactly(t *testing.T) {
	const k = 30
	r := &probe.Result{Model: "net.onnx", Theta: theta, Data: probe.Data{Format: "IDX"}}
	for j := range k {
		r.Data.Labels = append(r.Data.Labels, fmt.Sprintf("label %d", j))
	}
	pictures := report.NewPictures(0)
	var layers []probe.Fields
	for n, positions := range []int{1, 2, 16} {
		layers = append(layers, randomFields(k, 12, positions))
		addLayer(t, r, pictures, layers[n], fmt.Sprint("layer", n))
	}
	p := open(t, browser(t), statsPage(r, nil, pictures))
	for n, x := range layers {
		p.layer(n)
		for _, f := range []int{0, 5, 11} {
			p.filter(n, f)
			m := x.Matrix(nil, f)
			for _, view := range []string{"labels", "clusters", "near"} {
				p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector('[data-view="%s"]').click()`, view)))
				classes, order := p.cells()
				if want := wantCells(m, k, &r.Layers[n].Filters[f], order); classes != want {
					t.Errorf("layer %d, filter %d, %s: the matrix is\n%s, want\n%s", n, f, view, classes, want)
				}
				all := permutation(&r.Layers[n].Filters[f], k)
				d := r.Layers[n].Filters[f].D()
				switch {
				case view == "clusters" && !slices.Equal(order, all):
					t.Errorf("layer %d, filter %d: order %v, want %v", n, f, order, all)
				case view == "near" && (len(order) < min(k, d) || !slices.Equal(order[:d], all[:d])):
					t.Errorf("layer %d, filter %d: close order %v, want %v first", n, f, order, all[:d])
				case view == "labels" && (!slices.IsSorted(order) || len(order) != k):
					t.Errorf("layer %d, filter %d: label order %v", n, f, order)
				}
			}
		}
	}
}

// The curves, the table, the map and the keyboard all lead to a filter.
func TestMeasuredPage(t *testing.T) {
	const k = 40
	r := &probe.Result{Model: "net.onnx", Theta: theta, Accuracy: 0.9, Chance: 1. / k, Data: probe.Data{Format: "IDX"}}
	for j := range k {
		r.Data.Labels = append(r.Data.Labels, fmt.Sprintf("label %d", j))
	}
	pictures := report.NewPictures(0)
	for n := range 3 {
		addLayer(t, r, pictures, randomFields(k, 20+n, 1+n), fmt.Sprintf("/features/features.%d/Conv", n))
	}
	addSamples(t, pictures)
	model := fixture(t, "vgg16-glyphs20.onnx", inspect.Options{})
	p := open(t, browser(t), statsPage(r, &model, pictures))
	at := func() (layer, filter int) {
		t.Helper()
		s := ""
		p.until("the page shows a filter", func() bool {
			s = eval[string](p, `document.querySelector(".measured").dataset.ready ?? ""`)
			return s != ""
		})
		if _, err := fmt.Sscanf(s, "%d/%d", &layer, &filter); err != nil {
			t.Fatalf("the page shows %q", s)
		}
		return layer, filter
	}
	if l, _ := at(); l != 2 {
		t.Errorf("the page opens with layer %d", l)
	}
	if got := eval[int](p, `document.querySelectorAll(".plots:not(.sweeps) svg.plot").length`); got != 2 {
		t.Errorf("%d curves are drawn at first", got)
	}
	p.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll(".chips button")].find(b => b.textContent === "N_c").click()`))
	if got := eval[int](p, `document.querySelectorAll(".plots:not(.sweeps) svg.plot").length`); got != 3 {
		t.Errorf("%d curves are drawn with N_c", got)
	}
	// A point of the curve.
	p.do(chromedp.ScrollIntoView(chromedp.CSS(".plot")))
	x, y := p.spot(".plot circle:nth-of-type(1)")
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	if got := eval[string](p, `document.querySelector(".plotted").textContent`); !strings.HasPrefix(got, "1. /features/features.0/Conv: accuracy 20.0 %, SNR ") || !strings.Contains(got, "N_c") {
		t.Errorf("over a curve the page says %q", got)
	}
	p.do(chromedp.MouseClickXY(x, y))
	if l, _ := at(); l != 0 {
		t.Errorf("a click on a curve leads to layer %d", l)
	}
	// A row of the table, also after sorting.
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".layertable th.num button").click()`))
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".layertable tbody tr td").click()`))
	if l, _ := at(); l != 2 {
		t.Errorf("the row of the layer with most filters leads to layer %d", l)
	}
	if got := eval[string](p, `[...document.querySelectorAll("tr.on")].map(r => r.dataset.l).join()`); got != "2" {
		t.Errorf("rows %q are marked", got)
	}
	// The map: sorted by number, its third row is filter 2.
	p.choose("select.order", "number")
	p.do(chromedp.ScrollIntoView(chromedp.CSS("canvas.map")))
	spot := eval[[]float64](p, `(() => { const c = document.querySelector("canvas.map"), r = c.getBoundingClientRect(), g = JSON.parse(c.dataset.grid), d = devicePixelRatio; return [r.x + (g.x0 + 4.5 * g.x.size) / d, r.y + (g.y0 + 2.5 * g.y.size) / d]; })()`)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, spot[0], spot[1]))
	ratio := float64(r.Layers[2].Filters[2].Ratios[4])
	if got, want := eval[string](p, `new Promise(done => setTimeout(() => done(document.querySelector(".mapped").textContent), 100))`), fmt.Sprintf("filter 2, label 4: %.3f of the largest field", math.Round(ratio*1e4)/1e4); !strings.HasPrefix(got, want[:len(want)-22]) {
		t.Errorf("over the map the page says %q, want %q", got, want)
	}
	p.do(chromedp.MouseClickXY(spot[0], spot[1]))
	p.ready(2, 2)
	p.do(chromedp.Focus(chromedp.CSS("canvas.map")), chromedp.KeyEvent(kb.ArrowDown))
	p.ready(2, 3)
	p.do(chromedp.Focus(chromedp.CSS("canvas.map")), chromedp.KeyEvent(kb.ArrowUp))
	p.ready(2, 2)
	// Sorted by a label, the first filter has the largest ratio for it.
	best := 0
	for f, x := range r.Layers[2].Filters {
		if len(x.Ratios) > 0 && x.Ratios[7] > r.Layers[2].Filters[best].Ratios[7] {
			best = f
		}
	}
	p.choose(".bylabel", "label 7")
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("canvas.map").scrollIntoView({ block: "center" })`))
	spot = eval[[]float64](p, `(() => { const c = document.querySelector("canvas.map"), r = c.getBoundingClientRect(), g = JSON.parse(c.dataset.grid), d = devicePixelRatio; return [r.x + (g.x0 + 7.5 * g.x.size) / d, r.y + (g.y0 + 0.5 * g.y.size) / d]; })()`)
	p.do(chromedp.MouseClickXY(spot[0], spot[1]))
	p.ready(2, best)
	// Thumbnails have the colour of their sample.
	want := 10 * best % 256
	p.until("a thumbnail is drawn", func() bool { return eval[bool](p, `!!document.querySelector(".top canvas").dataset.drawn`) })
	if got := eval[[]int](p, `(() => { const c = document.querySelector(".top canvas"); return [...c.getContext("2d").getImageData(4, 4, 1, 1).data, Number(c.dataset.drawn)]; })()`); got[0] != want || got[1] != 200 || got[4] != 10*best {
		t.Errorf("the first sample of filter %d is drawn as %v", best, got)
	}
	if got := eval[int](p, `document.querySelectorAll(".top li").length`); got != 3 {
		t.Errorf("%d samples are shown", got)
	}
	if got := eval[int](p, `document.querySelectorAll(".sweeps svg.plot").length`); got != 5 {
		t.Errorf("%d curves over theta", got)
	}
	if got := eval[bool](p, `!!document.querySelector("svg.net .n")`); !got {
		t.Error("the model is not drawn")
	}
	// Dark and narrow, nothing reaches over the edge.
	for _, scheme := range []string{"dark", "light"} {
		p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			return err
		}))
		for _, w := range []int64{1400, 1024, 800, 480} {
			p.do(chromedp.EmulateViewport(w, 900))
			p.until(fmt.Sprintf("%s, at %d pixels: no wider, the matrix in its colours", scheme, w), func() bool {
				l, f := at()
				x := randomFields(k, 20+l, 1+l)
				classes, order := p.cells()
				return eval[int64](p, `document.documentElement.scrollWidth`) <= w && classes == wantCells(x.Matrix(nil, f), k, &r.Layers[l].Filters[f], order)
			})
		}
	}
}

// A page from saved statistics has everything but matrices and thumbnails.
func TestMeasuredWithoutPictures(t *testing.T) {
	m, _ := worked()
	r, _ := measured(t, []string{"a", "b", "c", "d", "e"}, [][]float32{m})
	p := open(t, browser(t), statsPage(r, nil, nil))
	p.ready(0, 0)
	if got := eval[string](p, `document.querySelector(".absent:not([hidden])").textContent`); got != "The page holds no field matrices of this layer." {
		t.Errorf("without pictures: %q", got)
	}
	if got := eval[string](p, `[...document.querySelectorAll(".top li")].map(l => l.textContent + l.querySelector("canvas").hidden).join(" ")`); got != "atrue btrue ctrue" {
		t.Errorf("the samples without pictures are %q", got)
	}
	r.Layers = nil
	open(t, browser(t), statsPage(r, nil, nil))

	// Where there is no room for all, the page says how to draw the others.
	labels := make([]string, 40)
	for j := range labels {
		labels[j] = fmt.Sprint("label ", j)
	}
	r = &probe.Result{Model: "net.onnx", Theta: theta, Data: probe.Data{Format: "IDX", Labels: labels}}
	pictures := report.NewPictures(2000)
	addLayer(t, r, pictures, randomFields(40, 20, 1), "/conv/Conv")
	q := open(t, browser(t), statsPage(r, nil, pictures))
	least := 0
	for f := range r.Layers[0].Filters {
		if r.Layers[0].Filters[f].D() <= r.Layers[0].Filters[least].D() {
			least = f
		}
	}
	q.until("the page shows a filter", func() bool { return eval[bool](q, `!!document.querySelector(".measured").dataset.ready`) })
	if eval[bool](q, `document.querySelector(".matrices").hidden`) {
		t.Error("the page opens with a filter that it does not draw")
	}
	q.filter(0, least)
	if got, want := eval[string](q, `document.querySelector(".absent:not([hidden]) code").textContent`), fmt.Sprintf("--plot filter:/conv/Conv/%d.png", least); got != want {
		t.Errorf("of a filter without room the page says %q, want %q", got, want)
	}
}

// Names that would run if they were not escaped do nothing but show.
func TestMeasuredHostileNames(t *testing.T) {
	m, _ := worked()
	r, pictures := measured(t, []string{Hostile, Hostile + "b", "", "__proto__", "constructor"}, [][]float32{m})
	r.Model, r.Data.Path, r.Warnings = Hostile, Hostile, []string{Hostile}
	r.Layers[0].Layers = []string{Hostile}
	addSamples(t, pictures)
	p := open(t, browser(t), statsPage(r, nil, pictures))
	p.ready(0, 0)
	for _, view := range []string{"labels", "clusters", "near"} {
		p.click(fmt.Sprintf(`[data-view="%s"]`, view))
	}
	p.do(chromedp.ScrollIntoView(chromedp.CSS("canvas.clipped")))
	x, y := p.matrixSpot("canvas.clipped", 0, 0)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	if got := eval[string](p, `document.querySelector(".fielded").textContent`); !strings.Contains(got, "images of "+Hostile) {
		t.Errorf("over a field the page says %q", got)
	}
	p.choose(".bylabel", Hostile)
	if got := eval[string](p, `document.querySelector(".clusters bdi").textContent`); !strings.HasPrefix(got, Hostile) && got != "__proto__" {
		t.Errorf("the first label is %q", got)
	}
	if got := eval[int](p, `document.querySelectorAll("img").length`); got != 0 {
		t.Errorf("%d images", got)
	}
}
