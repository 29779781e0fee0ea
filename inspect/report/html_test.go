package report

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report/browsertest"
)

// pageModel describes a model that is made in memory.
func pageModel(t testing.TB, p *onnxpb.ModelProto, name string) Model {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Read(bytes.NewReader(b), int64(len(b)), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := inspect.New(context.Background(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return NewModel(m, Selection{}, nil)
}

func pageOf(t testing.TB, models ...Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, models...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkPage tests what holds for every page: one policy, which lets nothing but
// the page's own script and style run, and nothing that it would stop.
func checkPage(t *testing.T, page string) {
	t.Helper()
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy" content="([^"]*)">`).FindAllStringSubmatch(page, -1)
	if len(policy) != 1 {
		t.Fatalf("%d policies", len(policy))
	}
	// html/template writes + as an entity; a browser reads the same.
	rules := strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(policy[0][1])
	if !strings.HasPrefix(rules, "default-src 'none'; ") || strings.Contains(rules, "unsafe") {
		t.Errorf("policy %q", rules)
	}
	for _, tag := range []string{"script", "style"} {
		parts := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(page, -1)
		if len(parts) != 1 {
			t.Fatalf("%d %s elements", len(parts), tag)
		}
		h := sha256.Sum256([]byte(parts[0][1]))
		if want := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"; !strings.Contains(rules, want) {
			t.Errorf("policy %q lacks %q", rules, want)
		}
	}
	// What is left without style, script and data are tags and text.
	rest := regexp.MustCompile(`(?s)<(script|style)[^>]*>.*?</(script|style)>`).ReplaceAllString(page, "")
	for _, bad := range []string{"<script", "</script", "<img", "<iframe", "<link", " src=", " style=", " onerror=", "javascript:", "http:", "https:", "ZgotmplZ"} {
		if i := strings.Index(rest, bad); i >= 0 {
			// In escaped text, an attribute's name is only a word.
			if strings.HasPrefix(bad, " ") && strings.Contains(rest[max(0, i-20):i], "&lt;img") || bad == " onerror=" && strings.Contains(rest[max(0, i-40):i], "&lt;img") {
				continue
			}
			t.Errorf("the page holds %q: %s", bad, rest[max(0, i-80):min(len(rest), i+80)])
		}
	}
}

// pageData returns what the panel shows, by node.
func pageData(t testing.TB, page string) map[string]detail {
	t.Helper()
	m := regexp.MustCompile(`(?s)<script type="application/json" class="data">(.*?)</script>`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the page has no data")
	}
	var data map[string]detail
	if err := json.Unmarshal([]byte(m[1]), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHTMLHostileNames(t *testing.T) {
	m := pageModel(t, browsertest.Hostiles(), browsertest.Hostile+".onnx")
	m.Findings = []inspect.Finding{{Code: browsertest.Hostile, Level: browsertest.Hostile, Scope: browsertest.Hostile, Node: browsertest.Hostile, Text: browsertest.Hostile}}
	m.Tensors = []inspect.TensorStats{{Name: browsertest.Hostile + "w", DType: browsertest.Hostile, Dims: []int64{8, 3, 1, 1}, Elements: 24, Values: &inspect.ValueStats{Min: ptr(math.NaN()), Max: ptr(1.0), Histogram: []int64{1, 0, 3}}}}
	m.Functions = []inspect.Function{{Name: browsertest.Hostile, Domain: browsertest.Hostile}}
	page := pageOf(t, m, m)
	checkPage(t, page)
	if strings.Contains(page, browsertest.Hostile) || strings.Contains(page, "<img") {
		t.Error("a name stands in the page as it is")
	}
	for _, c := range []string{"\x00", "\xff", "\u202e"} {
		if strings.Contains(page, c) {
			t.Errorf("%q stands in the page", c)
		}
	}
	found := false
	for _, d := range pageData(t, page) {
		found = found || d.Name == browsertest.Hostile
	}
	if !found {
		t.Error("no node has the name in the data")
	}
}

// A published model gives a small page in which every node can be found.
func TestHTMLPublishedModels(t *testing.T) {
	for name, build := range map[string]func(arch.Options) (*onnxfile.Draft, error){"vgg16": arch.VGG16, "efficientnet-b0": arch.EfficientNetB0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := build(arch.Options{Zero: true})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), name+".onnx")
			if err := arch.Write(path, d); err != nil {
				t.Fatal(err)
			}
			f, err := onnxfile.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			im, err := inspect.New(context.Background(), f, inspect.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m := NewModel(im, Selection{}, nil)
			page := pageOf(t, m)
			checkPage(t, page)
			if limit := 300_000; name == "vgg16" && len(page) > limit {
				t.Errorf("the page takes %d bytes, more than %d", len(page), limit)
			}
			if page != pageOf(t, m) {
				t.Error("a second page differs from the first")
			}
			data := pageData(t, page)
			for _, n := range im.Graph.Nodes {
				id := fmt.Sprintf("n%d", n.Index)
				if d, ok := data[id]; !ok || d.Name != n.Label() {
					t.Errorf("node %s is %+v in the data", n.Label(), d)
				}
				if got := strings.Count(page, `data-n="`+id+`" transform=`); got != 1 {
					t.Errorf("node %s is drawn %d times", n.Label(), got)
				}
			}
			if got := strings.Count(page, "<tr data-n="); got != len(im.Layers) {
				t.Errorf("%d rows of %d layers lead to a node", got, len(im.Layers))
			}
			if strings.Contains(page, `class="num unknown"`) && name == "vgg16" {
				t.Error("something is unknown of VGG-16")
			}
		})
	}
}

// Above maxDrawn nodes, every node is in one block, by name or by position.
func TestHTMLCollapse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		model *onnxpb.ModelProto
		first string
	}{
		{"named", browsertest.Deep(500, true), "stem"},
		{"unnamed", browsertest.Deep(500, false), "part 1"},
		{"one name", browsertest.Several(maxDrawn+100, "/a/b/Relu"), "part 1"},
		{"very deep", browsertest.Deep(1000, true), "stem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := pageModel(t, c.model, "m.onnx")
			n := newNetwork(m)
			if len(n.blocks) < 4 || len(n.blocks) > maxBlocks {
				t.Fatalf("%d blocks", len(n.blocks))
			}
			if n.blocks[0].name != c.first {
				t.Errorf("the first block is %q, want %q", n.blocks[0].name, c.first)
			}
			seen := make([]int, len(n.drawn))
			for i, b := range n.blocks {
				for _, k := range b.nodes {
					seen[k]++
					if n.block[k] != i {
						t.Fatalf("node %d is in block %d, not in %d", k, n.block[k], i)
					}
				}
			}
			for k, times := range seen {
				if times != 1 {
					t.Fatalf("node %d is in %d blocks", k, times)
				}
			}
			page := pageOf(t, m)
			checkPage(t, page)
			if got := strings.Count(page, `class="n f-`); got < len(n.blocks) {
				t.Errorf("%d boxes for %d blocks", got, len(n.blocks))
			}
		})
	}
	if n := newNetwork(pageModel(t, browsertest.Deep(300, true), "m.onnx")); n.blocks != nil {
		t.Errorf("%d nodes are collapsed", len(n.drawn))
	}
}

// Cuts follow the order in which nodes run, so no line leads back.
func TestCutsLeadForward(t *testing.T) {
	n := newNetwork(pageModel(t, browsertest.Deep(500, false), "m.onnx"))
	for i, next := range n.next {
		for _, k := range next {
			if n.block[k] < n.block[i] {
				t.Fatalf("a line leads from block %d to %d", n.block[i], n.block[k])
			}
		}
	}
	// Between two residual blocks one tensor passes: most cuts are there.
	crossing := make(map[int]map[int]bool)
	for i, next := range n.next {
		for _, k := range next {
			for b := n.block[i]; b < n.block[k]; b++ {
				if crossing[b] == nil {
					crossing[b] = make(map[int]bool)
				}
				crossing[b][i] = true
			}
		}
	}
	single := 0
	for _, from := range crossing {
		if len(from) == 1 {
			single++
		}
	}
	if 10*single < 9*len(crossing) {
		t.Errorf("%d of %d cuts are where one tensor passes", single, len(crossing))
	}
}

func TestHTMLHostileSizes(t *testing.T) {
	if testing.Short() {
		t.Skip("describes 12,000 nodes")
	}
	t.Parallel()
	wide := browsertest.Several(1200, "")
	for i, n := range wide.Graph.Node { // each reads the 60 before it
		n.OpType = proto.String("Sum")
		for k := max(0, i-60); k < i; k++ {
			n.Input = append(n.Input, fmt.Sprintf("t%d", k))
		}
	}
	long := browsertest.Several(3, strings.Repeat("x", 1<<20))
	for name, p := range map[string]*onnxpb.ModelProto{"nodes": browsertest.Deep(1500, true), "lines": wide, "names": long} {
		m := pageModel(t, p, "m.onnx")
		begin := time.Now()
		var n countWriter
		if err := WriteHTML(&n, m); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes in %v", name, n, time.Since(begin))
		if d := time.Since(begin); d > time.Minute {
			t.Errorf("%s took %v", name, d)
		}
		if n > 20e6 {
			t.Errorf("%s: a page of %d bytes", name, n)
		}
	}
}

type countWriter int64

func (n *countWriter) Write(b []byte) (int, error) { *n += countWriter(len(b)); return len(b), nil }

// Models without a graph, without layers and without anything.
func TestHTMLGaps(t *testing.T) {
	golden := NewModel(goldenModel(), Selection{}, []inspect.Finding{})
	checkPage(t, pageOf(t, golden))
	page := pageOf(t, golden, Model{Schema: ModelSchema, Model: &inspect.Model{File: "empty.onnx"}})
	checkPage(t, page)
	for _, want := range []string{"<title>2 models</title>", `<a href="#m1">`, `id="m1"`, "No node of this model holds parameters"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	empty := pageModel(t, &onnxpb.ModelProto{IrVersion: proto.Int64(8), Graph: &onnxpb.GraphProto{}}, "e.onnx")
	checkPage(t, pageOf(t, empty))
	checkPage(t, pageOf(t))
}

func TestHTMLDocuments(t *testing.T) {
	d := FromEvaluations(goldenEvaluations())
	d.Title, d.Warnings = browsertest.Hostile, []string{browsertest.Hostile}
	var b bytes.Buffer
	if err := WriteDocumentsHTML(&b, d, FromCompared(goldenCompared(CompareChoice{}), CompareView{}), FromStats(goldenResult()), FromPrune(goldenPrune())); err != nil {
		t.Fatal(err)
	}
	checkPage(t, b.String())
	for _, want := range []string{"a.onnx", "/conv1/Conv", `class="num"`, `aria-sort`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	b.Reset()
	if err := WriteDocumentsHTML(&b); err != nil {
		t.Fatal(err)
	}
	checkPage(t, b.String())
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestHTMLWriteError(t *testing.T) {
	if err := WriteHTML(brokenWriter{}, NewModel(goldenModel(), Selection{}, nil)); err == nil {
		t.Error("a page that cannot be written gives no error")
	}
	if err := WriteDocumentsHTML(brokenWriter{}, FromPrune(goldenPrune())); err == nil {
		t.Error("documents that cannot be written give no error")
	}
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		bins []int64
		want string
	}{
		{nil, ""}, {[]int64{0, 0}, ""}, {[]int64{1}, "M0 100v-100h90v100z"}, {[]int64{0, 4, 2, 0}, "M25 100v-100h22.5v100zM50 100v-50h22.5v50z"},
	} {
		if got := sparkline(c.bins); got != c.want {
			t.Errorf("sparkline(%v) = %q, want %q", c.bins, got, c.want)
		}
	}
}

func TestKernelText(t *testing.T) {
	for _, c := range []struct {
		l    inspect.Layer
		want string
	}{
		{inspect.Layer{}, ""}, {inspect.Layer{Kernel: []int64{3, 3}, Strides: []int64{1, 1}, Group: 1}, "3x3"},
		{inspect.Layer{Kernel: []int64{3, 3}, Strides: []int64{2, 2}, Group: 32}, "3x3 /2 g32"}, {inspect.Layer{Kernel: []int64{3, 1}, Strides: []int64{2, 1}}, "3x1 /2x1"},
	} {
		if got := kernelText(c.l); got != c.want {
			t.Errorf("kernelText(%+v) = %q, want %q", c.l, got, c.want)
		}
	}
}

func BenchmarkWriteHTML(b *testing.B) {
	m := pageModel(b, browsertest.Deep(250, true), "deep.onnx")
	for b.Loop() {
		if err := WriteHTML(io.Discard, m); err != nil {
			b.Fatal(err)
		}
	}
}
