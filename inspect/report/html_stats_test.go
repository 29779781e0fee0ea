package report

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/report/browsertest"
)

func statsPageOf(t testing.TB, r *probe.Result, m *Model, p *Pictures) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteStatsHTML(&b, r, m, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// scripts returns what the data scripts of a class hold.
func scripts(page, class string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?s)<script type="application/json" class="`+class+`"[^>]*>(.*?)</script>`).FindAllStringSubmatch(page, -1) {
		list = append(list, m[1])
	}
	return list
}

func decoded[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return v
}

// The page holds every number of a result, whatever was measured of it.
func TestStatsHTML(t *testing.T) {
	r := goldenResult()
	page := statsPageOf(t, r, nil, nil)
	checkPage(t, page)
	if page != statsPageOf(t, r, nil, nil) {
		t.Error("a second page differs from the first")
	}
	for _, want := range []string{"<title>net.onnx</title>", "90.00 %", "/conv2/Conv + /short/Conv", "How it was measured", "What the numbers mean", "hold no field matrices", "its outputs are the labels"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	data := decoded[statsData](t, scripts(page, "stats")[0])
	if strings.Join(data.Labels, " ") != "cat dog cow" || len(data.Layers) != 2 || data.Layers[0].Name != "conv1" || data.Theta != 0.3 {
		t.Errorf("data %+v", data)
	}
	// What no layer has is no curve.
	for _, m := range data.Measures {
		if m.Key == "jaccard" && r.Layers[0].Stability == nil {
			t.Error("a curve of stability, which was not measured")
		}
		if len(m.Value) != 2 {
			t.Errorf("%s has %d values", m.Key, len(m.Value))
		}
	}
	filters := scripts(page, "filters")
	if len(filters) != 2 || len(scripts(page, "fields")) != 0 {
		t.Fatalf("%d layers, %d with fields", len(filters), len(scripts(page, "fields")))
	}
	l := decoded[filterData](t, filters[0])
	if fmt.Sprint(l.Max) != "[1.5 0 0]" || fmt.Sprint(l.Counts[0]) != "[6 1 1 0]" || fmt.Sprint(l.Clusters) != "[[[0 2] [1]] [] []]" || fmt.Sprint(l.NonFinite) != "[2]" {
		t.Errorf("filters %+v", l)
	}
	checkPage(t, statsPageOf(t, &probe.Result{}, nil, NewPictures(0)))
}

// Everything that can be measured of a filter is in the page.
func TestStatsHTMLMeasures(t *testing.T) {
	r := goldenResult()
	for i := range r.Layers {
		l := &r.Layers[i]
		l.Stability = &afcc.Stability{Runs: 2, Jaccard: ptr(0.5), Phi: ptr(0.25)}
		l.Order = &afcc.LabelOrder{Nc: afcc.Spread{Mean: 2, SD: 0.5}}
		l.Confusion = &afcc.ClusterConfusion{WeightedLift: ptr(3.0)}
		l.Sweep = []afcc.Stats{{Theta: 0.1, Filters: 1}, {Theta: 0.5, Filters: 1, SNR: ptr(2.0)}}
		for n := range l.Filters {
			l.Single = append(l.Single, probe.SingleFilter{Accuracy: ptr(0.25)})
			l.Top = append(l.Top, []probe.TopSample{{Sample: 7, ID: "7", Label: 1, Activation: math.Inf(1)}})
			s := afcc.FilterStability{Index: n, Jaccard: ptr(0.5)}
			for range l.Filters[n].Clusters {
				s.Clusters = append(s.Clusters, afcc.ClusterStability{Jaccard: 0.75})
			}
			l.Stability.Filters = append(l.Stability.Filters, s)
		}
	}
	page := statsPageOf(t, r, nil, nil)
	checkPage(t, page)
	data := decoded[statsData](t, scripts(page, "stats")[0])
	keys := make(map[string]float64)
	for _, m := range data.Measures {
		if m.Value[0] != nil {
			keys[m.Key] = float64(*m.Value[0])
		}
	}
	for key, want := range map[string]float64{"jaccard": 0.5, "phi": 0.25, "order": 0.25, "confusion": 3, "single": 0.25, "accuracy": 0.5} {
		if keys[key] != want {
			t.Errorf("%s is %v, want %v", key, keys[key], want)
		}
	}
	if len(data.Sweep) != 5 || len(data.Thetas) != 2 || data.Sweep[0].Value[1][0] != nil || *data.Sweep[0].Value[1][1] != 2 {
		t.Errorf("the sweep is %+v over %v", data.Sweep, data.Thetas)
	}
	// The numbers of these curves are folded away beside them.
	if at, rest := strings.Index(page, "<summary>The numbers</summary>"), strings.Index(page, `<section class="document rest">`); at < 0 || strings.Index(page, "thresholds theta") < at || strings.Contains(page[rest:], "thresholds theta") {
		t.Error("the tables over theta do not stand with their curves")
	}
	l := scripts(page, "filters")[0]
	for _, want := range []string{`"runs":2`, `"stable":[[0.5,null]`, `"clustered":[[0.75,0.75],[],[]]`, `"single":[[0.25,null]`, `"top":[[[7,1,null]]`} {
		if !strings.Contains(l, want) {
			t.Errorf("the filters lack %s: %s", want, l)
		}
	}
}

// Matrices and thumbnails are there as they were collected; the page says which
// filters it does not show.
func TestStatsHTMLPictures(t *testing.T) {
	l, x := topLayer(t, "l", []int{3}, []int{4})
	r := &probe.Result{Model: "m.onnx", Theta: 0.3, Layers: []probe.Layer{*l}}
	p := NewPictures(0)
	if err := p.Add(l, x); err != nil {
		t.Fatal(err)
	}
	if err := p.AddSamples(context.Background(), func(int) (image.Image, error) { return plainImage(4, 4, color.White), nil }); err != nil {
		t.Fatal(err)
	}
	m := pageModel(t, browsertest.Deep(1, true), "m.onnx")
	page := statsPageOf(t, r, &m, p)
	checkPage(t, page)
	if !strings.Contains(page, `class="net"`) || strings.Contains(page, "Pictures may take") {
		t.Error("the model is not drawn, or filters are missing")
	}
	d := decoded[filterData](t, scripts(page, "filters")[0])
	fields := decoded[[]string](t, scripts(page, "fields")[0])
	if len(d.Drawn) != 2 || len(fields) != 2 || d.Codes {
		t.Fatalf("drawn %v, %d matrices, codes %v", d.Drawn, len(fields), d.Codes)
	}
	for i, f := range d.Drawn {
		packed, err := base64.StdEncoding.DecodeString(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := matrixOf(unpacked(t, packed), 12), x.Matrix(nil, f); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("filter %d has another matrix", f)
		}
	}
	thumbs := decoded[map[int][]byte](t, scripts(page, "thumbs")[0])
	if len(thumbs) != 2 || !bytes.Equal(thumbs[3], p.thumbs[3]) {
		t.Errorf("%d thumbnails", len(thumbs))
	}

	small := NewPictures(p.used)
	if err := small.Add(l, x); err != nil {
		t.Fatal(err)
	}
	page = statsPageOf(t, r, nil, small)
	if !strings.Contains(page, "l: 1 of 2.") || !strings.Contains(page, "--plot filter:LAYER/N.png") {
		t.Error("the page does not say which filters it leaves out")
	}
}

func TestStatsHTMLHostileNames(t *testing.T) {
	const bad = browsertest.Hostile + "\x00\xff\u202e"
	r := goldenResult()
	r.Model, r.Data.Path, r.Data.Format, r.Data.Labels, r.Warnings = bad, bad, bad, []string{bad, bad, strings.Repeat("x", 1<<20)}, []string{bad}
	for i := range r.Layers {
		r.Layers[i].Layers = []string{bad}
		r.Layers[i].Op = bad
	}
	r.Skipped = []probe.Skip{{Layer: bad, Reason: bad}}
	page := statsPageOf(t, r, nil, NewPictures(0))
	checkPage(t, page)
	if strings.Contains(page, browsertest.Hostile) || strings.Contains(page, "<img") {
		t.Error("a name stands in the page as it is")
	}
	for _, c := range []string{"\x00", "\xff", "\u202e"} {
		if strings.Contains(page, c) {
			t.Errorf("%q stands in the page", c)
		}
	}
	if len(page) > 200_000 {
		t.Errorf("a page of %d bytes", len(page))
	}
	if got := decoded[statsData](t, scripts(page, "stats")[0]).Labels[0]; !strings.HasPrefix(got, browsertest.Hostile) {
		t.Errorf("the label is %q", got)
	}
}

// A fall of accuracy or SNR is marked in the curve and told in words.
func TestStatsHTMLTrends(t *testing.T) {
	r := goldenResult()
	r.Layers = append(r.Layers, r.Layers[0], r.Layers[1])
	r.Layers[1].Inner = true
	for i, a := range []float64{0.5, 0.1, 0.7, 0.6} {
		r.Layers[i].Accuracy = a
	}
	page := statsPageOf(t, r, nil, nil)
	checkPage(t, page)
	data := decoded[statsData](t, scripts(page, "stats")[0])
	if got := fmt.Sprint(data.Measures[0].Falls); got != "[[2 3]]" || !data.Layers[1].Inner || data.Layers[2].Inner || !data.Layers[3].Own {
		t.Errorf("accuracy falls at %s in %+v", got, data.Layers)
	}
	title := trendSection(r).Title
	if strings.Count(page, title) != 1 || strings.Index(page, title) > strings.Index(page, "layertable\"") {
		t.Errorf("%q does not stand once, below the curves", title)
	}
}

func TestStatsHTMLWriteError(t *testing.T) {
	if err := WriteStatsHTML(brokenWriter{}, goldenResult(), nil, nil); err == nil {
		t.Error("a page that cannot be written gives no error")
	}
}

func TestPageNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 3: "3", 0.1: "0.1", 1. / 3: "0.333333", 1e-7: "1e-07", 123456789: "123456789", math.Inf(1): "null", -2.5: "-2.5", 1e300: "1e+300"} {
		if b, err := json.Marshal(pageNumber(v)); err != nil || string(b) != want {
			t.Errorf("%v is written as %s, %v", v, b, err)
		}
	}
	for v, want := range map[float32]string{0.3: "0.3", 1e10: "1e+10", float32(math.NaN()): "0"} {
		if got := exact(v); string(got) != want {
			t.Errorf("%v is written as %s", v, got)
		}
	}
}
