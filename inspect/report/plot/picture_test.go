package plot

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// sample is a result with the field matrices of its first layer.
type sample struct {
	*probe.Result
	matrices [][]float32
}

func newSample(layers, filters, k int) sample {
	r := rand.New(rand.NewPCG(uint64(layers), uint64(k)))
	s := sample{Result: &probe.Result{Schema: probe.Schema, Model: "dir/net.onnx", Theta: 0.3, Accuracy: 0.7, Chance: 1 / float64(k)}}
	s.Data.Path = "dir/images"
	for j := range k {
		s.Data.Labels = append(s.Data.Labels, fmt.Sprintf("label_%d", j))
	}
	for i := range layers {
		name := fmt.Sprintf("/features/features.%d/features.%d.conv/Conv", i, i)
		l := probe.Layer{Tap: probe.Tap{Layers: []string{name}, Tensor: fmt.Sprintf("t%d", i), Op: "Conv", Filters: filters, Pool: 1}, Head: "trained",
			Accuracy: float64(i+1) / float64(layers+1)}
		st := &afcc.Stability{Runs: 5}
		sweep := map[float64][]afcc.Filter{}
		for f := range filters {
			m := matrix(r, k)
			if i == 0 {
				s.matrices = append(s.matrices, m)
			}
			fl := afcc.Analyze(m, k, s.Theta)
			fl.Index = f
			l.Filters = append(l.Filters, fl)
			share := r.Float64()
			fs := afcc.FilterStability{Index: f, Jaccard: &share}
			for range fl.Clusters {
				fs.Clusters = append(fs.Clusters, afcc.ClusterStability{Jaccard: r.Float64()})
			}
			st.Filters = append(st.Filters, fs)
			for _, theta := range []float64{0.1, 0.5, 0.9} {
				sweep[theta] = append(sweep[theta], afcc.Analyze(m, k, theta))
			}
		}
		l.Stats, l.Stability = afcc.Summarize(l.Filters, k, s.Theta), st
		for _, theta := range []float64{0.1, 0.5, 0.9} {
			l.Sweep = append(l.Sweep, afcc.Summarize(sweep[theta], k, theta))
		}
		s.Layers = append(s.Layers, l)
	}
	s.Layers[layers-1].Head = "classifier"
	return s
}

// matrix has large fields for two groups of labels.
func matrix(r *rand.Rand, k int) []float32 {
	m := make([]float32, k*k)
	a, b := r.IntN(k), r.IntN(k)
	strong := func(i int) bool { return i == a || i == b || i%7 == a%7 && i < 20 }
	for i := range k {
		for j := range k {
			m[i*k+j] = float32(r.NormFloat64()) * 0.1
			if strong(i) && strong(j) {
				m[i*k+j] += 0.5 + r.Float32()
			}
		}
	}
	return m
}

// words are one of each kind.
func words() []string {
	var list []string
	for _, k := range Kinds() {
		list = append(list, strings.NewReplacer("LAYER", "t0", "/N", "/1").Replace(k.Word))
	}
	return list
}

// likeSNR tells which words give pictures like that of "snr": as PNG files, which
// take long to write, they are left out.
func likeSNR(word string) bool {
	return slices.Contains([]string{"accuracy", "nc", "cs", "d", "n", "depth", "theta:t0"}, word)
}

// spec reads a word that must be right.
func (s sample) spec(t testing.TB, word, format string) (Spec, []float32) {
	t.Helper()
	spec, err := Parse(word + "." + format)
	if err != nil {
		t.Fatal(err)
	}
	var taps []*probe.Tap
	for i := range s.Layers {
		taps = append(taps, &s.Layers[i].Tap)
	}
	if err := spec.Resolve(taps); err != nil {
		t.Fatal(err)
	}
	if spec.NeedsMatrix() {
		return spec, s.matrices[spec.Filter]
	}
	return spec, nil
}

func (s sample) write(t testing.TB, word, format string) []byte {
	t.Helper()
	spec, m := s.spec(t, word, format)
	var b bytes.Buffer
	if err := Write(&b, spec, s.Result, m); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	return b.Bytes()
}

// draw draws a picture without making a file of it, which takes most of the time.
func (s sample) draw(t testing.TB, word, format string) (*figure, []placed) {
	t.Helper()
	spec, m := s.spec(t, word, format)
	faces, err := newTypefaces()
	if err != nil {
		t.Fatal(err)
	}
	var texts []placed
	f := &figure{format: format, faces: faces, onText: func(x, y vg.Length, st style, text string) {
		texts = append(texts, place(faces, x, y, st, text))
	}}
	if err := f.draw(spec, s.Result, m); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	return f, texts
}

// drawn is an SVG as a reader of XML finds it.
type drawn struct {
	texts    []string
	elements map[string]int
	images   []image.Image
	crisp    []bool
	title    string
	w, h     float64
}

func readSVG(t testing.TB, data []byte) drawn {
	t.Helper()
	d := drawn{elements: map[string]int{}}
	dec := xml.NewDecoder(bytes.NewReader(data))
	in := ""
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return d
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			in = e.Name.Local
			d.elements[in]++
			for _, a := range e.Attr {
				if a.Name.Local != "href" && (strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf")) {
					t.Errorf("<%s %s=%q>", in, a.Name.Local, a.Value)
				}
				switch {
				case in == "svg" && a.Name.Local == "width":
					d.w, _ = strconv.ParseFloat(strings.TrimSuffix(a.Value, "pt"), 64)
				case in == "svg" && a.Name.Local == "height":
					d.h, _ = strconv.ParseFloat(strings.TrimSuffix(a.Value, "pt"), 64)
				case in == "image" && a.Name.Local == "href":
					code, ok := strings.CutPrefix(a.Value, "data:image/png;base64,")
					raw, err := base64.StdEncoding.DecodeString(code)
					img, err2 := png.Decode(bytes.NewReader(raw))
					if !ok || err != nil || err2 != nil {
						t.Fatalf("image %.40q: %v %v", a.Value, err, err2)
					}
					d.images = append(d.images, img)
					d.crisp = append(d.crisp, slices.ContainsFunc(e.Attr, func(a xml.Attr) bool { return a.Value == "image-rendering:pixelated" }))
				}
			}
		case xml.CharData:
			switch in {
			case "text":
				d.texts = append(d.texts, string(e))
			case "title":
				d.title = string(e)
			}
		case xml.EndElement:
			in = ""
		}
	}
}

func TestEveryKindIsAPicture(t *testing.T) {
	for _, k := range []int{2, 10, 100} {
		s := newSample(4, 12, k)
		for _, word := range words() {
			svg := s.write(t, word, SVG)
			if !bytes.Equal(svg, s.write(t, word, SVG)) {
				t.Errorf("%s, K = %d: two files differ", word, k)
			}
			d := readSVG(t, svg)
			if d.title == "" || len(d.texts) < 10 || d.w < 200 || d.h < 150 {
				t.Errorf("%s, K = %d: title %q, %d texts, %g x %g", word, k, d.title, len(d.texts), d.w, d.h)
			}
			if k != 2 || likeSNR(word) {
				continue
			}
			file := s.write(t, word, PNG)
			if word == "layer:t0" && !bytes.Equal(file, s.write(t, word, PNG)) {
				t.Errorf("%s, K = %d: two PNG files differ", word, k)
			}
			img, err := png.Decode(bytes.NewReader(file))
			if err != nil {
				t.Fatalf("%s: %v", word, err)
			}
			// A PNG has two pixels for each of the SVG's, whose 72 points are 96.
			if got, want := float64(img.Bounds().Dx()), d.w*dpi/72; math.Abs(got-want) > 1 {
				t.Errorf("%s: %g pixels wide, want %g", word, got, want)
			}
		}
	}
}

// example is the worked example of the definitions: five labels, clusters {0,1} and
// {2}, two ones of internal and two of external noise.
func example() (s sample, m []float32) {
	m = []float32{
		1.0, 0.8, 0.1, 0.0, 0.2,
		0.6, 0.9, 0.1, 0.35, 0.0,
		0.4, 0.1, 0.5, 0.0, 0.0,
		0.0, 0.2, 0.0, 0.1, 0.6,
		-.5, 0.0, 0.31, 0.0, 0.3,
	}
	s = newSample(1, 1, 5)
	s.matrices = [][]float32{m}
	s.Layers[0].Filters[0] = afcc.Analyze(m, 5, 0.3)
	s.Layers[0].Stats = afcc.Summarize(s.Layers[0].Filters, 5, 0.3)
	return s, m
}

// The kinds of the cells of the example.
const exampleCells = "" +
	"CC..." +
	"CC.E." +
	"I.C.." +
	"....E" +
	"..I.."

func TestClippedCells(t *testing.T) {
	s, m := example()
	kinds, ones := clip(m, 5, &s.Layers[0].Filters[0], 0.3)
	got := ""
	for _, k := range kinds {
		got += string(".CIE"[k])
	}
	if got != exampleCells || ones != 9 {
		t.Errorf("cells %q with %d ones, want %q with 9", got, ones, exampleCells)
	}
	fl := &s.Layers[0].Filters[0]
	if strings.Count(got, "I") != fl.Internal || strings.Count(got, "E") != fl.External {
		t.Errorf("noise %s, the filter has %d and %d", got, fl.Internal, fl.External)
	}
	if order := clustersFirst(fl, 5); !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
		t.Errorf("order %v", order)
	}
	fl = &afcc.Filter{Clusters: [][]int{{1, 4}, {2}}}
	if order := clustersFirst(fl, 6); !slices.Equal(order, []int{1, 4, 2, 0, 3, 5}) {
		t.Errorf("order %v", order)
	}
}

func TestClippedPixels(t *testing.T) {
	s, m := example()
	want := map[byte]color.Color{'.': color.White, 'C': blue, 'I': orange, 'E': grey}
	spec, _ := s.spec(t, "filter:t0/0", PNG)
	faces, err := newTypefaces()
	if err != nil {
		t.Fatal(err)
	}
	f := &figure{format: PNG, faces: faces}
	p, err := f.drawFilter(spec, s.Result, &s.Layers[0], m)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(s.write(t, "filter:t0/0", PNG)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		for j := range 5 {
			at := func(g grid, dx, dy vg.Length) color.Color {
				c := g.cell(i, j)
				r := f.pixels(box(c.Min.X+c.Size().X*dx, c.Min.Y+c.Size().Y*dy, 0, 0))
				return img.At(r.Min.X, r.Min.Y)
			}
			kind := exampleCells[i*5+j]
			// The labels stand in order in the example, so both matrices are equal.
			for name, g := range map[string]grid{"clipped": p.clipped, "permuted": p.permuted} {
				for _, d := range []vg.Length{0.15, 0.5, 0.85} {
					if got := at(g, d, 1-d); !same(got, want[kind]) {
						t.Errorf("%s (%d,%d): %v, want that of %c", name, i, j, got, kind)
					}
				}
			}
			pal := diverging()
			if got := at(p.field, 0.1, 0.1); !same(got, pal[shade(m[i*5+j], len(pal))]) {
				t.Errorf("field (%d,%d): %v", i, j, got)
			}
		}
	}
	// The same cells are in the images of the SVG: field twice, scale, clipped twice.
	d := readSVG(t, s.write(t, "filter:t0/0", SVG))
	if len(d.images) != 5 {
		t.Fatalf("%d images", len(d.images))
	}
	for _, n := range []int{3, 4} {
		for c := range 25 {
			if got := d.images[n].At(c%5, c/5); !same(got, want[exampleCells[c]]) || !d.crisp[n] {
				t.Errorf("SVG image %d, cell %d: %v", n, c, got)
			}
		}
	}
	text := strings.Join(append(d.texts, d.title), "\n")
	for _, want := range []string{"N_c = 2", "C_s = 1.5", "d = 3", "n = 4 (internal 2, external 2)", "0.35", "-0.50", "label_4", "> 0.3", "θ = 0.3"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
}

func same(a, b color.Color) bool {
	r, g, bl, _ := a.RGBA()
	r2, g2, bl2, _ := b.RGBA()
	return r == r2 && g == g2 && bl == bl2
}

func TestShades(t *testing.T) {
	nan := float32(math.NaN())
	inf := float32(math.Inf(1))
	for v, want := range map[float32]uint8{-1: 0, -7: 0, -inf: 0, 0: 100, 0.5: 150, 1: 200, 3: 200, inf: 200} {
		if got := shade(v, 201); got != want {
			t.Errorf("shade(%g) = %d, want %d", v, got, want)
		}
	}
	if shade(nan, 201) != 201 {
		t.Error("NaN has a colour")
	}
	if p := diverging(); !same(p[100], color.White) || len(p) != 201 {
		t.Error("0 is not white")
	}
}

func TestHostileNames(t *testing.T) {
	names := []string{`</text><script>alert(1)</script>`, `"><image xlink:href="http://example.org/x"/>`, "a\x00b\x1bc\ufffe", "\xff\xfe", "金魚", "ёж", strings.Repeat("long ", 4000),
		"<image x=\"", `style="font-family:Liberation Sans;`, "\u202eevil", ""}
	for _, k := range []int{len(names), 200} {
		s := newSample(3, 5, k)
		copy(s.Data.Labels, names)
		s.Model = names[0] + "\n.onnx"
		for i := range s.Layers {
			s.Layers[i].Layers = []string{names[i] + names[3]}
		}
		s.Layers[2].Layers = []string{"層の名前", "b"}
		for _, word := range words() {
			svg := s.write(t, word, SVG)
			d := readSVG(t, svg)
			for e := range d.elements {
				if !slices.Contains([]string{"svg", "title", "g", "path", "text", "image"}, e) {
					t.Errorf("%s: element <%s>", word, e)
				}
			}
			if bytes.Contains(svg, []byte("<script")) || bytes.Contains(svg, []byte("example.org/x\"/>")) && bytes.Contains(svg, []byte(`href="http`)) {
				t.Errorf("%s: a name was not escaped", word)
			}
			// A name of 20,000 letters, on axes.
			if limit := 400 * 1024; len(svg) > limit {
				t.Errorf("%s, K = %d: %d bytes", word, k, len(svg))
			}
			if d.w > 3000 || d.h > 3000 {
				t.Errorf("%s: %g x %g", word, d.w, d.h)
			}
			if k < 20 && !likeSNR(word) {
				s.draw(t, word, PNG)
			}
		}
	}
}

// Letters that the font lacks are left to the viewer of an SVG file; a PNG file
// has a number in their place and says so.
func TestNamesWithoutLetters(t *testing.T) {
	s := newSample(2, 3, 4)
	s.Data.Labels = []string{"金魚", "ёж", "αβγ", "čáp"}
	d := readSVG(t, s.write(t, "layer:t0", SVG))
	for _, n := range s.Data.Labels {
		if !slices.Contains(d.texts, n) {
			t.Errorf("the SVG does not have %q", n)
		}
	}
	s.Model, s.Layers[0].Layers = "模型.onnx", []string{"層"}
	for _, word := range []string{"layer:t0", "filter:t0/0"} {
		f, texts := s.draw(t, word, PNG)
		for _, p := range texts {
			if !f.faces.covers(p.text) {
				t.Errorf("%s: %q has letters that the font lacks", word, p.text)
			}
		}
		if f.numbered == 0 {
			t.Errorf("%s: no name was replaced by a number", word)
		}
		st := plain(9, ink)
		if got := f.name("金魚", "#0", st, 60); got != "#0" {
			t.Errorf("name in PNG: %q", got)
		}
		if got := f.name("ёж", "#1", st, 60); got != "ёж" {
			t.Errorf("name in PNG: %q", got)
		}
		if got := f.faces.width("金魚", st); got != 2*st.size {
			t.Errorf("two letters that the font lacks are %g wide", got)
		}
	}
}

func TestMissing(t *testing.T) {
	s := newSample(2, 3, 4)
	for i := range s.Layers {
		s.Layers[i].Sweep, s.Layers[i].Stability = nil, nil
	}
	for word, part := range map[string]string{"theta": "--thetas", "theta:t1": "--thetas", "stability:t0": "--stability", "filter:t0/0": "new measurement"} {
		spec, _ := s.spec(t, word, SVG)
		err := Write(io.Discard, spec, s.Result, nil)
		var missing *MissingError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %v, want one with %q", word, err, part)
		}
	}
	spec, m := s.spec(t, "filter:t0/0", SVG)
	if err := Write(io.Discard, spec, s.Result, m[1:]); err == nil {
		t.Error("a field matrix that is too short was drawn")
	}
	if err := Write(io.Discard, spec, s.Result, s.matrices[1]); err == nil || !strings.Contains(err.Error(), "not that of the filter") {
		t.Errorf("the field matrix of another filter: %v", err)
	}
	spec.Tensor = "other"
	if err := Write(io.Discard, spec, s.Result, m); err == nil {
		t.Error("a layer that was not measured was drawn")
	}
	for _, word := range words() {
		spec, m := s.spec(t, word, SVG)
		if err := Write(io.Discard, spec, &probe.Result{}, m); err == nil {
			t.Errorf("%s of an empty result", word)
		}
	}
	full := errors.New("disk full")
	spec, _ = s.spec(t, "snr", SVG)
	if err := Write(writer(func([]byte) (int, error) { return 0, full }), spec, s.Result, nil); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// Filters without a clipped matrix, layers without any cluster.
func TestNothingToShow(t *testing.T) {
	s := newSample(3, 3, 4)
	l := &s.Layers[0]
	for i := range l.Filters {
		for c := range s.matrices[i] {
			s.matrices[i][c] = -1
			if i == 1 {
				s.matrices[i][c] = float32(math.NaN())
			}
			if i == 2 {
				s.matrices[i][c] = 0
			}
		}
		l.Filters[i] = afcc.Analyze(s.matrices[i], 4, 0.3)
		l.Filters[i].Index = i
	}
	l.Stats = afcc.Summarize(l.Filters, 4, 0.3)
	l.Sweep = []afcc.Stats{l.Stats}
	l.Stability = &afcc.Stability{Runs: 2, Filters: make([]afcc.FilterStability, 3)}
	all := append(words(), "filter:t0/0", "filter:t0/2")
	for _, word := range all {
		d := readSVG(t, s.write(t, word, SVG))
		if !likeSNR(word) {
			s.draw(t, word, PNG)
		}
		text := strings.Join(d.texts, "\n")
		for prefix, want := range map[string]string{"snr": "A cross marks", "filter:t0/0": "No field is above 0", "filter:t0/1": "not finite", "layer": "3 of 3 filters", "stability": "none"} {
			if strings.HasPrefix(word, prefix) && !strings.Contains(text, want) {
				t.Errorf("%s does not say %q:\n%s", word, want, text)
			}
		}
	}
}

// A file may hold numbers that no measurement gives.
func TestWildNumbers(t *testing.T) {
	for _, v := range []float64{-1e300, 1e300, -5, 1e-300, math.MaxFloat64, math.NaN(), math.Inf(1)} {
		s := newSample(3, 3, 4)
		for i := range s.Layers {
			l := &s.Layers[i]
			l.Accuracy, l.Stats.SNR, l.Stats.Signal = v, &v, v
			l.Stats.Mean = afcc.Averages{Nc: v, Cs: v, D: v, N: v}
			l.Stats.MeanAll = l.Stats.Mean
			for j := range l.Sweep {
				l.Sweep[j].SNR, l.Sweep[j].Mean = &v, l.Stats.Mean
			}
			for j := range l.Stability.Filters {
				l.Stability.Filters[j].Jaccard = &v
			}
		}
		s.Accuracy, s.Chance = v, v
		for _, word := range words() {
			d := readSVG(t, s.write(t, word, SVG))
			if d.w > 3000 || d.h > 3000 {
				t.Errorf("%s of %g: %g x %g", word, v, d.w, d.h)
			}
			if v == 1e300 && !likeSNR(word) {
				s.draw(t, word, PNG)
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		lo, hi   float64
		n        int
		want     []float64
		decimals int
	}{
		{0, 10, 5, []float64{0, 2, 4, 6, 8, 10}, 0},
		{0, 9.6, 5, []float64{0, 2, 4, 6, 8, 10}, 0},
		{0, 0.33, 5, []float64{0, 0.1, 0.2, 0.3, 0.4}, 1},
		{0, 0, 5, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}, 1},
		{0, 846, 5, []float64{0, 200, 400, 600, 800, 1000}, 0},
	} {
		got, decimals := ticks(tt.lo, tt.hi, tt.n)
		ok := len(got) == len(tt.want) && decimals == tt.decimals
		for i := range got {
			ok = ok && math.Abs(got[i]-tt.want[i]) < 1e-12
		}
		if !ok {
			t.Errorf("ticks(%g, %g, %d) = %v, %d; want %v, %d", tt.lo, tt.hi, tt.n, got, decimals, tt.want, tt.decimals)
		}
	}
}

func TestLogarithmicScale(t *testing.T) {
	for _, tt := range []struct{ lo, hi, bottom, top float64 }{
		{1.3, 173, 1, 200}, {3, 3000, 2, 5000}, {0.4, 20, 0.2, 20}, {1, 1, 1, 2}, {0.001, 1000, 0.001, 1000},
	} {
		f := &figure{format: SVG}
		var err error
		if f.faces, err = newTypefaces(); err != nil {
			t.Fatal(err)
		}
		f.open(100, 100)
		p := frame{Rectangle: box(0, 0, 100, 100)}
		f.logarithmic(&p, tt.lo, tt.hi)
		if math.Abs(p.y0-math.Log10(tt.bottom)) > 1e-9 || math.Abs(p.y1-math.Log10(tt.top)) > 1e-9 {
			t.Errorf("scale of %g to %g: %g to %g", tt.lo, tt.hi, math.Pow(10, p.y0), math.Pow(10, p.y1))
		}
	}
}

func TestFit(t *testing.T) {
	faces, err := newTypefaces()
	if err != nil {
		t.Fatal(err)
	}
	st := plain(9, ink)
	for _, tt := range []struct{ in, want string }{
		{"short", "short"},
		{"", ""},
		{strings.Repeat("i", 20), strings.Repeat("i", 20)},
		{"/model/backbone/stages.3/blocks.17/depthwise/Conv", "/mode…pthwise/Conv"},
	} {
		got := faces.fit(tt.in, st, 90)
		if got != tt.want || faces.width(got, st) > 90 {
			t.Errorf("fit(%q) = %q, %g wide; want %q", tt.in, got, faces.width(got, st), tt.want)
		}
	}
	if got := faces.fit(strings.Repeat("w", 1e6), st, 90); faces.width(got, st) > 90 || !strings.Contains(got, "…") {
		t.Errorf("fit of a long name: %q", got)
	}
}

// TestNoTextOverlaps finds the place of every text by what is recorded while a
// picture is drawn: none lies on another or leaves the picture.
func TestNoTextOverlaps(t *testing.T) {
	for _, size := range []struct{ layers, filters, k int }{{1, 1, 2}, {4, 12, 10}, {13, 64, 100}, {80, 4, 3}, {200, 2, 2}, {2, 3, 120}, {2, 3, 1000}} {
		s := newSample(size.layers, size.filters, size.k)
		list := words()
		if size.filters == 1 {
			list = []string{"snr", "depth", "theta", "layer:t0", "filter:t0/0", "stability:t0"}
		}
		for _, word := range list {
			f, texts := s.draw(t, word, SVG)
			if len(texts) < 10 {
				t.Errorf("%s: %d texts recorded", word, len(texts))
			}
			for i, a := range texts {
				for _, c := range a.corners {
					if c.X < 0 || c.Y < 0 || c.X > f.w || c.Y > f.h {
						t.Errorf("%s, %v: %q leaves the picture", word, size, a.text)
						break
					}
				}
				for _, b := range texts[:i] {
					if overlap(a.corners, b.corners) {
						t.Errorf("%s, %v: %q lies on %q", word, size, a.text, b.text)
					}
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

// What is written beside a scale gives way where values lie close together.
func TestTextsOfCloseValues(t *testing.T) {
	s := newSample(3, 70, 10)
	for _, v := range []float64{0, 0.02, 0.1, 0.45, 0.53, 0.97} {
		s.Theta, s.Accuracy = v, s.Chance+v/10
		for _, word := range []string{"snr", "layer:t0"} {
			_, texts := s.draw(t, word, SVG)
			for i, a := range texts {
				for _, b := range texts[:i] {
					if overlap(a.corners, b.corners) {
						t.Errorf("%s, %g: %q lies on %q", word, v, a.text, b.text)
					}
				}
			}
		}
	}
}

// placed is a text and the corners of its letters without tails.
type placed struct {
	text    string
	corners [4]vg.Point
}

func place(faces *typefaces, x, y vg.Length, st style, text string) placed {
	w, h := faces.width(text, st), st.size*capital
	sin, cos := math.Sincos(st.turn)
	p := placed{text: text}
	for i, c := range [4]vg.Point{{X: 0, Y: 0}, {X: w, Y: 0}, {X: w, Y: h}, {X: 0, Y: h}} {
		dx, dy := float64(c.X-w*vg.Length(st.across)), float64(c.Y-h*vg.Length(st.up))
		p.corners[i] = vg.Point{X: x + vg.Length(dx*cos-dy*sin), Y: y + vg.Length(dx*sin+dy*cos)}
	}
	return p
}

// overlap tells whether two rectangles that may be turned share more than a
// hair's breadth: no line separates them.
func overlap(a, b [4]vg.Point) bool {
	for _, r := range [][4]vg.Point{a, b} {
		for i := range 2 {
			axis := r[i+1].Sub(r[i])
			n := vg.Length(math.Hypot(float64(axis.X), float64(axis.Y)))
			if n == 0 {
				return false
			}
			span := func(c [4]vg.Point) (lo, hi vg.Length) {
				lo, hi = vg.Length(math.Inf(1)), vg.Length(math.Inf(-1))
				for _, p := range c {
					d := p.Dot(axis) / n
					lo, hi = min(lo, d), max(hi, d)
				}
				return lo, hi
			}
			alo, ahi := span(a)
			blo, bhi := span(b)
			if ahi <= blo+0.1 || bhi <= alo+0.1 {
				return false
			}
		}
	}
	return true
}

// A matrix of a thousand labels is an image, not a million rectangles.
func TestManyLabels(t *testing.T) {
	s := newSample(1, 2, 1000)
	for _, word := range []string{"filter:t0/1", "layer:t0"} {
		data := s.write(t, word, SVG)
		d := readSVG(t, data)
		total := 0
		for _, n := range d.elements {
			total += n
		}
		if total > 500 || len(data) > 8<<20 {
			t.Errorf("%s: %d elements, %d bytes", word, total, len(data))
		}
		if b := d.images[0].Bounds(); b.Dx() != 1000 {
			t.Errorf("%s: image of %v", word, b)
		}
		if word == "filter:t0/1" && d.crisp[0] {
			t.Errorf("%s: a matrix shown smaller than it is must not lose its cells", word)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, k := range []int{100, 1000} {
		s := newSample(13, 8, k)
		for _, word := range []string{"snr", "depth", "theta", "layer:t0", "filter:t0/1", "stability:t0"} {
			for _, format := range []string{SVG, PNG} {
				spec, m := s.spec(b, word, format)
				b.Run(fmt.Sprintf("%s.%s/K=%d", spec.Kind, format, k), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if err := Write(io.Discard, spec, s.Result, m); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
