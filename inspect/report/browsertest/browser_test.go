package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report"
)

// chromium finds a browser: FILTERLENS_CHROME, else by its usual names. Without
// one the tests are skipped, or fail when FILTERLENS_NEED_CHROME is 1.
func chromium(t *testing.T) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}
	if p := os.Getenv("FILTERLENS_CHROME"); p != "" {
		names = []string{p}
	}
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	if os.Getenv("FILTERLENS_NEED_CHROME") == "1" {
		t.Fatalf("none of %s is there, and FILTERLENS_NEED_CHROME is 1", strings.Join(names, ", "))
	}
	t.Skipf("PAGES ARE NOT TESTED IN A BROWSER: none of %s is there; FILTERLENS_CHROME names another", strings.Join(names, ", "))
	return ""
}

// A page is an open page and what went wrong in it.
type page struct {
	t      *testing.T
	ctx    context.Context
	opened bool

	mu       sync.Mutex
	faults   []string
	requests []string
}

// patience is how long one step may take; a busy machine is slow.
const patience = 30 * time.Second

// browser starts one browser for a test and its subtests.
func browser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	return ctx
}

// open writes models as a page and opens it from the file system, in a tab of
// its own.
func open(t *testing.T, browser context.Context, write func(*bytes.Buffer) error) *page {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &page{t: t}
	add := func(list *[]string, text string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		*list = append(*list, text)
	}
	ctx, stop := chromedp.NewContext(browser, chromedp.WithListener(func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			add(&p.faults, "exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			add(&p.faults, fmt.Sprintf("console.%s", e.Type))
		case *log.EventEntryAdded:
			// What the policy stops is reported here.
			add(&p.faults, "log: "+e.Entry.Text)
		case *network.EventRequestWillBeSent:
			add(&p.requests, e.Request.URL)
		case *fetch.EventRequestPaused:
			add(&p.requests, e.Request.URL)
		}
	}))
	t.Cleanup(stop)
	p.ctx = ctx
	target := (&url.URL{Scheme: "file", Path: path}).String()
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(target))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			t.Error(f)
		}
		if len(p.requests) == 0 {
			t.Error("the browser reported no request, not even for the page")
		}
		for _, r := range p.requests {
			if r != target {
				t.Errorf("the page asked for %s", r)
			}
		}
	})
	return p
}

// do runs steps. Those that wait for an element to come would wait for ever, so
// they have a deadline; the call that opens the tab must have none, since the
// tab would close with it.
func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := p.ctx, context.CancelFunc(func() {})
	if p.opened {
		ctx, stop = context.WithTimeout(ctx, patience)
	}
	defer stop()
	p.opened = true
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (p *page) click(selector string) {
	p.t.Helper()
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

// spot returns the middle of an element on the screen.
func (p *page) spot(selector string) (x, y float64) {
	p.t.Helper()
	at := eval[[]float64](p, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector))
	return at[0], at[1]
}

// window is the part of the drawing that is seen: x, y, width, height.
func (p *page) window() []float64 {
	p.t.Helper()
	return eval[[]float64](p, `document.querySelector("svg.net").getAttribute("viewBox").split(" ").map(Number)`)
}

func (p *page) column(k int) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll(".layers tbody tr")].filter(r => !r.hidden).map(r => r.cells[%d].dataset.v ?? r.cells[%d].textContent)`, k, k))
}

func fixture(t *testing.T, name string, opt inspect.Options) report.Model {
	t.Helper()
	f, err := onnxfile.Open(filepath.Join("..", "..", "..", "fixtures", name))
	if err != nil {
		t.Fatal(err)
	}
	return describe(t, f, opt)
}

func made(t *testing.T, m *onnxpb.ModelProto) report.Model {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), "made.onnx")
	if err != nil {
		t.Fatal(err)
	}
	return describe(t, f, inspect.Options{})
}

func describe(t *testing.T, f *onnxfile.File, opt inspect.Options) report.Model {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(context.Background(), f, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report.NewModel(m, report.Selection{}, []inspect.Finding{{Code: "test", Level: "warning", Node: m.Layers[0].Name, Text: "a finding"}})
}

func html(models ...report.Model) func(*bytes.Buffer) error {
	return func(b *bytes.Buffer) error { return report.WriteHTML(b, models...) }
}

func TestModelPages(t *testing.T) {
	ctx := browser(t)
	for _, c := range []struct {
		name  string
		model func(t *testing.T) report.Model
	}{
		{"vgg16", func(t *testing.T) report.Model {
			return fixture(t, "vgg16-glyphs20.onnx", inspect.Options{Statistics: true, Weights: true})
		}},
		{"efficientnet-b0", func(t *testing.T) report.Model {
			return fixture(t, "efficientnet-b0-glyphs20.onnx", inspect.Options{})
		}},
		{"deep", func(t *testing.T) report.Model { return made(t, Deep(250, true)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.model(t)
			p := open(t, ctx, html(m))
			t.Run("sort", func(t *testing.T) { p.t = t; testSort(p, m) })
			t.Run("search", func(t *testing.T) { p.t = t; testSearch(p, m) })
			t.Run("select", func(t *testing.T) { p.t = t; testSelect(p, m) })
			t.Run("zoom", func(t *testing.T) { p.t = t; testZoom(p) })
			t.Run("chart", func(t *testing.T) { p.t = t; testChart(p) })
			p.t = t
		})
	}
}

func testSort(p *page, m report.Model) {
	const parameters, name = 5, 1
	click := func(k int) (state string) {
		p.click(fmt.Sprintf(".layers thead th:nth-child(%d) button", k+1))
		return eval[string](p, fmt.Sprintf(`document.querySelectorAll(".layers thead th")[%d].getAttribute("aria-sort")`, k))
	}
	if got := click(parameters); got != "descending" {
		p.t.Errorf("a first click on parameters sorts %s", got)
	}
	want := make([]int64, len(m.Layers))
	for i, l := range m.Layers {
		want[i] = l.Parameters
	}
	slices.Sort(want)
	slices.Reverse(want)
	if got, w := strings.Join(p.column(parameters), " "), strings.Trim(fmt.Sprint(want), "[]"); got != w {
		p.t.Errorf("parameters are %s, want %s", got, w)
	}
	if got := click(parameters); got != "ascending" {
		p.t.Errorf("a second click on parameters sorts %s", got)
	}
	slices.Reverse(want)
	if got, w := strings.Join(p.column(parameters), " "), strings.Trim(fmt.Sprint(want), "[]"); got != w {
		p.t.Errorf("parameters are %s, want %s", got, w)
	}
	// The keyboard does the same.
	p.do(chromedp.Focus(chromedp.CSS(".layers thead th:nth-child(2) button")), chromedp.KeyEvent(kb.Enter))
	if got := eval[int](p, `document.querySelectorAll('.layers thead [aria-sort="ascending"], .layers thead [aria-sort="descending"]').length`); got != 1 {
		p.t.Errorf("%d columns claim to be sorted", got)
	}
	names := p.column(name)
	sorted := eval[bool](p, `(() => { const c = new Intl.Collator("en", { numeric: true }); const n = [...document.querySelectorAll(".layers tbody tr")].map(r => r.cells[1].textContent); return n.every((x, i) => !i || c.compare(n[i - 1], x) <= 0); })()`)
	if !sorted || len(names) != len(m.Layers) {
		p.t.Errorf("names are not in order: %v", names)
	}
	if click(0) != "descending" || click(0) != "ascending" {
		p.t.Error("the first column does not sort both ways")
	}
	if got := p.column(0); got[0] != "0" || got[len(got)-1] != fmt.Sprint(len(m.Layers)-1) {
		p.t.Errorf("the first column runs from %s to %s", got[0], got[len(got)-1])
	}
}

func testSearch(p *page, m report.Model) {
	layers, nodes := 0, 0
	for _, l := range m.Layers {
		if l.Op == "Conv" {
			layers++
		}
	}
	for _, n := range m.Graph.Nodes {
		if n.Op == "Conv" {
			nodes++
		}
	}
	p.do(chromedp.SendKeys(chromedp.CSS(".search input"), "CONV"))
	found := eval[string](p, `document.querySelector(".found").textContent`)
	shown := len(p.column(0))
	// Names of other layers may hold the word.
	if shown < layers || shown == len(m.Layers) && layers < len(m.Layers) {
		p.t.Errorf("%d rows are shown, %d are convolutions", shown, layers)
	}
	plain := strings.ReplaceAll(found, ",", "")
	if !strings.HasPrefix(plain, fmt.Sprintf("%d of %d layers", shown, len(m.Layers))) {
		p.t.Errorf("the count says %q, %d rows are shown", found, shown)
	}
	hits := eval[int](p, `document.querySelectorAll(".view:not(.off) .n.hit").length`)
	if hits < nodes {
		p.t.Errorf("%d nodes are marked, %d are convolutions", hits, nodes)
	}
	// Enter leads from one to the next.
	p.do(chromedp.SendKeys(chromedp.CSS(".search input"), "\r"))
	first := eval[string](p, `document.querySelector(".n.on").dataset.n`)
	p.do(chromedp.SendKeys(chromedp.CSS(".search input"), "\r"))
	if second := eval[string](p, `document.querySelector(".n.on").dataset.n`); second == first {
		p.t.Errorf("Enter stays at %s", first)
	}
	p.do(chromedp.Evaluate[chromedp.Void](`(() => { const i = document.querySelector(".search input"); i.value = "no such layer"; i.dispatchEvent(new Event("input")); })()`))
	if got := len(p.column(0)); got != 0 {
		p.t.Errorf("%d rows are shown for what is not there", got)
	}
	p.do(chromedp.Evaluate[chromedp.Void](`(() => { const i = document.querySelector(".search input"); i.value = ""; i.dispatchEvent(new Event("input")); })()`))
	if got := len(p.column(0)); got != len(m.Layers) {
		p.t.Errorf("%d of %d rows are shown when nothing is searched for", got, len(m.Layers))
	}
	p.click(".panel .close")
}

func testSelect(p *page, m report.Model) {
	// From the drawing to the panel and the row: the first layer is in sight.
	l := m.Layers[0]
	box := fmt.Sprintf(`.n[data-n="n%d"]`, l.Node)
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("svg.net").focus()`), chromedp.KeyEvent(kb.Home))
	x, y := p.spot(box + " rect")
	p.do(chromedp.MouseClickXY(x, y))
	text := eval[string](p, `document.querySelector(".panel:not([hidden])")?.textContent ?? ""`)
	for _, want := range []string{l.Op, l.Name, "kernel_shape", "inputs", l.InTensor, l.Weight, "outputs", l.OutTensor} {
		if !strings.Contains(text, want) {
			p.t.Errorf("the panel of %s lacks %q: %s", l.Name, want, text)
		}
	}
	if got := eval[[]string](p, `[...document.querySelectorAll("tr.on")].map(r => r.dataset.x)`); !slices.Equal(got, []string{"0"}) {
		p.t.Errorf("rows %v are marked", got)
	}
	if got := eval[int](p, `document.querySelectorAll(".e.on").length`); got < 2 {
		p.t.Errorf("%d lines are marked", got)
	}
	// From the panel to the next node.
	p.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll(".panel h4")].find(h => h.textContent === "outputs").parentNode.querySelector(".go").click()`))
	if got := eval[string](p, `document.querySelector(".n.on").dataset.n`); got == fmt.Sprintf("n%d", l.Node) {
		p.t.Error("the output leads nowhere")
	}
	// From a row to the drawing: the node is in the middle.
	last := m.Layers[len(m.Layers)-1]
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector('.layers tr[data-n="n%d"] .go').click()`, last.Node)))
	x, y = p.spot(fmt.Sprintf(`.n.on[data-n="n%d"] rect`, last.Node))
	cx, cy := p.spot("svg.net")
	if x-cx > 5 || cx-x > 5 || y-cy > 5 || cy-y > 5 {
		p.t.Errorf("the node of the last row is at (%.0f, %.0f), the middle is (%.0f, %.0f)", x, y, cx, cy)
	}
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("svg.net").focus()`), chromedp.KeyEvent(kb.Escape))
	if !eval[bool](p, `document.querySelector(".panel").hidden`) {
		p.t.Error("Escape leaves the panel open")
	}
	// A finding leads to its node.
	p.click(".findings .go")
	if got := eval[string](p, `document.querySelector(".n.on").dataset.n`); got != fmt.Sprintf("n%d", l.Node) {
		p.t.Errorf("the finding leads to %s", got)
	}
	p.click(".panel .close")
}

func testZoom(p *page) {
	p.do(chromedp.Evaluate[chromedp.Void](`scrollTo(0, 0); document.querySelector("svg.net").focus()`), chromedp.KeyEvent(kb.Home))
	x, y := p.spot("svg.net")
	wheel := func(dy float64, modifiers int64) {
		p.t.Helper()
		p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseWheel, X: x, Y: y, DeltaX: 0.001, DeltaY: dy, Modifiers: modifiers})
			return err
		}), chromedp.Sleep(100*time.Millisecond))
	}
	narrower := func(what string, before, after []float64) {
		p.t.Helper()
		if after[2] >= before[2] {
			p.t.Errorf("%s does not zoom in: %v, then %v", what, before, after)
		}
	}
	start := p.window()
	const ctrl = 2
	wheel(-120, ctrl)
	zoomed := p.window()
	narrower("Ctrl + wheel", start, zoomed)
	// The point under the pointer stays where it is.
	if a, b := start[1]+start[3]/2, zoomed[1]+zoomed[3]/2; a-b > 1 || b-a > 1 {
		p.t.Errorf("zooming moves the point under the pointer from %v to %v", a, b)
	}
	wheel(200, 0)
	if w := p.window(); w[1] <= zoomed[1] || w[2] != zoomed[2] {
		p.t.Errorf("the wheel does not move down: %v, then %v", zoomed, w)
	}
	before := p.window()
	p.click(".zin")
	narrower("the button", before, p.window())
	before = p.window()
	p.do(chromedp.Focus(chromedp.CSS("svg.net")), chromedp.KeyEvent("+"))
	narrower("the key", before, p.window())
	before = p.window()
	p.do(chromedp.DragAndDropXY(x, y, x-60, y-80, 6))
	if w := p.window(); w[0] <= before[0] || w[1] <= before[1] {
		p.t.Errorf("dragging does not move: %v, then %v", before, w)
	}
	if !eval[bool](p, `document.querySelector(".panel").hidden`) {
		p.t.Error("dragging selects")
	}
	p.click(".fit")
	all := p.window()
	size := eval[[]float64](p, `(() => { const v = document.querySelector(".view:not(.off)").dataset; return [Number(v.w), Number(v.h)]; })()`)
	if all[0] > 0 || all[1] > 0 || all[0]+all[2] < size[0] || all[1]+all[3] < size[1] {
		p.t.Errorf("fit shows %v of a drawing of %v", all, size)
	}
}

func testChart(p *page) {
	p.do(chromedp.ScrollIntoView(chromedp.CSS(".chart")))
	x, y := p.spot(".chart")
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	if got := eval[string](p, `document.querySelector(".readout").textContent`); !strings.Contains(got, "parameters,") {
		p.t.Errorf("over a chart the page says %q", got)
	}
	p.do(chromedp.MouseClickXY(x, y))
	if got := eval[int](p, `document.querySelectorAll("tr.on").length`); got != 1 {
		p.t.Errorf("a click on a chart marks %d rows", got)
	}
}

// A graph that is collapsed shows blocks, and a block opens.
func TestCollapsed(t *testing.T) {
	m := made(t, Deep(500, true))
	p := open(t, browser(t), html(m))
	blocks := eval[int](p, `document.querySelectorAll(".view:not(.off) .n.block").length`)
	if blocks < 10 || blocks > 300 {
		t.Fatalf("%d blocks", blocks)
	}
	x, y := p.spot(`.n.block[data-n="b1"] rect`)
	p.do(chromedp.MouseClickXY(x, y))
	if got := eval[string](p, `document.querySelector(".panel").textContent`); !strings.Contains(got, "layer0") || !strings.Contains(got, "parameters") || !strings.Contains(got, "Conv") {
		t.Errorf("the panel of a block says %q", got)
	}
	p.click(".panel .open")
	if got := eval[string](p, `document.querySelector(".view:not(.off)").dataset.view`); got != "b1" {
		t.Errorf("the block opens %q", got)
	}
	if n := eval[int](p, `document.querySelectorAll(".view:not(.off) .n:not(.io)").length`); n < 8 {
		t.Errorf("the block shows %d nodes", n)
	}
	p.click(".back")
	if got := eval[int](p, `document.querySelectorAll(".view:not(.off) .n.block").length`); got != blocks {
		t.Errorf("%d blocks after coming back", got)
	}
	// A row leads into the block that holds its node.
	l := m.Layers[len(m.Layers)-2]
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector('.layers tr[data-n="n%d"] .go').click()`, l.Node)))
	if got := eval[bool](p, fmt.Sprintf(`!!document.querySelector('.view:not(.off) .n.on[data-n="n%d"]')`, l.Node)); !got {
		t.Error("the row does not lead to its node")
	}
}

// Names that would run if they were not escaped do nothing but show.
func TestHostileNames(t *testing.T) {
	p := open(t, browser(t), html(made(t, Hostiles())))
	if got := eval[int](p, `document.querySelectorAll("img").length + document.scripts.length`); got != 2 {
		t.Errorf("%d images and scripts, want the page's two scripts", got)
	}
	x, y := p.spot(`.n[data-n="n0"] rect`)
	p.do(chromedp.MouseClickXY(x, y))
	if got := eval[string](p, `document.querySelector(".panel p").textContent`); got != Hostile {
		t.Errorf("the panel shows %q", got)
	}
	if got := eval[int](p, `document.querySelectorAll(".panel img").length`); got != 0 {
		t.Error("the panel holds an image")
	}
}

// Several models in one page work each for itself, and documents sort too.
func TestListsAndDocuments(t *testing.T) {
	ctx := browser(t)
	a, b := fixture(t, "vgg16-glyphs20.onnx", inspect.Options{}), fixture(t, "efficientnet-b0-glyphs20.onnx", inspect.Options{})
	p := open(t, ctx, html(a, b))
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#m1 .layers tr[data-n] .go").click()`))
	if got := eval[string](p, `[...document.querySelectorAll(".n.on")].map(n => n.closest("section").id).join()`); got != "m1" {
		t.Errorf("a row of the second model selects in %q", got)
	}
	table := report.Document{Title: "t", Sections: []report.Section{{Table: &report.Table{Columns: []report.Column{{Title: "n", Right: true}, {Title: "s"}},
		Rows: [][]report.Cell{{report.Count(10), report.Words("b10")}, {report.Count(9), report.Words("b9")}, {{Text: "unknown"}, report.Words("a")}, {report.Count(1000), report.Words("c")}}}}}}
	q := open(t, ctx, func(b *bytes.Buffer) error { return report.WriteDocumentsHTML(b, table) })
	order := func() string {
		return eval[string](q, `[...document.querySelectorAll("tbody tr")].map(r => r.cells[0].textContent).join(" ")`)
	}
	for _, want := range []string{"1,000 10 9 unknown", "9 10 1,000 unknown"} {
		q.click("thead th:nth-child(1) button")
		if got := order(); got != want {
			t.Errorf("sorted by number: %s, want %s", got, want)
		}
	}
	q.click("thead th:nth-child(2) button")
	if got, want := order(), "unknown 9 10 1,000"; got != want {
		t.Errorf("sorted by text: %s, want %s", got, want)
	}
}

// Nothing reaches over the edge of the window, and the page comes up at once.
func TestWidths(t *testing.T) {
	p := open(t, browser(t), html(fixture(t, "efficientnet-b0-glyphs20.onnx", inspect.Options{})))
	if got := eval[float64](p, `new Promise(done => { let sum = 0; new PerformanceObserver(l => l.getEntries().forEach(e => sum += e.value)).observe({ type: "layout-shift", buffered: true }); setTimeout(() => done(sum), 100); })`); got > 0.01 {
		t.Errorf("the layout shifts by %v", got)
	}
	for _, w := range []int64{1280, 1024, 800, 480} {
		p.do(chromedp.EmulateViewport(w, 900))
		if got := eval[int64](p, `document.documentElement.scrollWidth`); got > w {
			t.Errorf("at %d pixels the page is %d wide", w, got)
		}
		if got := eval[[]float64](p, `(() => { const r = document.querySelector("svg.net").getBoundingClientRect(); return [r.width, r.height]; })()`); got[0] < 300 || got[1] < 250 {
			t.Errorf("at %d pixels the drawing is %.0f x %.0f", w, got[0], got[1])
		}
	}
}
