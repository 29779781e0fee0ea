package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

//go:embed assets/stats.tmpl
var statsTemplate string

//go:embed assets/stats.css
var statsCSS string

//go:embed assets/stats.js
var statsJS string

// WriteStatsHTML writes what was measured as one page in the manner of WriteHTML:
// accuracy and SNR by layer, the tables of FromStats, a map of the filters of each
// layer by labels, and the clusters of each filter. m, if any, is the model, which
// is drawn below. p, if any, adds field matrices and thumbnails of top samples;
// r may as well have been read back from a file.
func WriteStatsHTML(w io.Writer, r *probe.Result, m *Model, p *Pictures) error {
	s, err := newHTMLStats(r, p)
	if err != nil {
		return err
	}
	page := htmlPage{Title: s.Title, Stats: s}
	if m != nil {
		v, err := newHTMLModel(*m, "m0")
		if err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
		page.Models = append(page.Models, v)
	}
	return page.write(w)
}

// A htmlStats is the section of a page that describes a measurement.
type htmlStats struct {
	Title, Path, From string
	Warnings          []string
	Tiles             []htmlTile
	Layers            []htmlStatsLayer
	// Table is that of the layers, row i that of layer i, and Notes what its
	// numbers mean; Rest is what else FromStats tells.
	Table *htmlTable
	Notes []string
	Rest  []htmlSection
	// Trends says in words what the curves show, Swept holds the numbers of the
	// curves over theta.
	Trends, Swept []htmlSection
	// Drawn says which filters have field matrices, when not all do.
	Drawn []string
	// Data is what all of the page needs, Thumbs the thumbnails, both JSON.
	Data, Thumbs template.JS
}

// A htmlStatsLayer is a layer as the script needs it. Its JSON is made when the
// page is written, one layer at a time.
type htmlStatsLayer struct {
	Index int
	Name  string
	stats *htmlStatsSource
}

type htmlStatsSource struct {
	layer    *probe.Layer
	labels   int
	pictures *layerPictures
}

// maxDataText bounds a label's name in the data of a page.
const maxDataText = 200

// statsData is the JSON that describes a measurement to the script.
type statsData struct {
	Labels   []string       `json:"labels"`
	Theta    float64        `json:"theta"`
	Layers   []layerData    `json:"layers"`
	Measures []measureData  `json:"measures"`
	Sweep    []sweepMeasure `json:"sweep,omitempty"`
	Thetas   []pageNumber   `json:"thetas,omitempty"`
}

type layerData struct {
	Name    string `json:"name"`
	Full    string `json:"full"`
	Filters int    `json:"filters"`
	// Plot is the layer as --plot and --layers name it.
	Plot string `json:"plot"`
	// Own tells that the head is the model's own classifier.
	Own bool `json:"own,omitempty"`
	// Inner tells that the tap lies inside a layer: it is no point of the trend.
	Inner bool `json:"inner,omitempty"`
}

// measureData is one number of every layer, nil where a layer has none. Lines are
// values to compare it with.
type measureData struct {
	Key   string     `json:"key"`
	Name  string     `json:"name"`
	Title string     `json:"title"`
	Share bool       `json:"share,omitempty"`
	Shown bool       `json:"shown,omitempty"`
	Lines []lineData `json:"lines,omitempty"`
	// Falls are the steps, as pairs of layers, at which it falls although the
	// paper reports a rise.
	Falls [][2]int      `json:"falls,omitempty"`
	Value []*pageNumber `json:"values"`
}

type lineData struct {
	Name  string     `json:"name"`
	Value pageNumber `json:"value"`
}

// sweepMeasure is one number of every layer at every threshold.
type sweepMeasure struct {
	Name  string          `json:"name"`
	Title string          `json:"title"`
	Value [][]*pageNumber `json:"values"`
}

// filterData holds the filters of a layer, position = number of the filter.
type filterData struct {
	// Max is exact, so that the script clips as afcc does.
	Max []json.Number `json:"max"`
	// Counts are the ones, the noise, and its internal and external part.
	Counts   [][4]int  `json:"counts"`
	Clusters [][][]int `json:"clusters"`
	// NonFinite lists the filters whose fields are not finite.
	NonFinite []int `json:"nonfinite,omitempty"`
	// Ratios is base64 of packRatios.
	Ratios string `json:"ratios"`
	// Stable is Jaccard and Phi of each filter, Clustered the Jaccard of its
	// clusters; Runs counts the measurements.
	Runs      int             `json:"runs,omitempty"`
	Stable    [][2]pageNumber `json:"stable,omitempty"`
	Clustered [][]pageNumber  `json:"clustered,omitempty"`
	// Single is the accuracy of each filter alone, and that among its labels.
	Single [][2]pageNumber `json:"single,omitempty"`
	// Top lists for each filter sample, label and activation.
	Top [][][3]pageNumber `json:"top,omitempty"`
	// Drawn lists the filters that have field matrices, Codes tells their form,
	// Low the lowest field of each.
	Drawn []int         `json:"drawn,omitempty"`
	Codes bool          `json:"codes,omitempty"`
	Low   []json.Number `json:"low,omitempty"`
}

// A pageNumber is written with six digits, null when it is not finite.
type pageNumber float64

func (n pageNumber) MarshalJSON() ([]byte, error) {
	v := float64(n)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.AppendInt(nil, int64(v), 10), nil
	}
	return strconv.AppendFloat(nil, v, 'g', 6, 64), nil
}

func numberOr(v *float64) pageNumber {
	if v == nil {
		return pageNumber(math.NaN())
	}
	return pageNumber(*v)
}

// exact writes a float32, such as a largest field, so that it is read back.
func exact(v float32) json.Number {
	if v != v || math.IsInf(float64(v), 0) {
		return "0"
	}
	return json.Number(strconv.FormatFloat(float64(v), 'g', -1, 32))
}

func newHTMLStats(r *probe.Result, p *Pictures) (*htmlStats, error) {
	doc := FromStats(r)
	name := printable(filepath.Base(r.Model))
	h := &htmlStats{Title: name, Path: printable(r.Model), Warnings: printables(doc.Warnings)}
	h.From = "what its filters recognise in " + printable(r.Data.Format)
	if r.Data.Path != "" {
		h.From = "what its filters recognise in " + printable(r.Data.Path+" ("+r.Data.Format+")")
	}
	h.Tiles = statsTiles(r)
	trends := cmp.Or(trendSection(r).Title, "no trends")
	data := statsData{Labels: make([]string, labelCount(r)), Theta: r.Theta}
	data.Thetas, data.Sweep = sweepMeasures(r)
	swept := make(map[string]bool)
	if data.Sweep != nil {
		for _, s := range sweepSections(r) {
			swept[printable(s.Title)] = true
		}
	}
	for _, s := range newHTMLDocument(doc).Sections {
		// The table of layers is looked at together with the curves.
		if h.Table == nil && s.Table != nil && s.Title == "Layers" && len(s.Table.Rows) == len(r.Layers) {
			h.Table, h.Notes = s.Table, s.Notes
			continue
		}
		switch {
		case s.Title == trends:
			h.Trends = append(h.Trends, s)
		case swept[s.Title]:
			h.Swept = append(h.Swept, s)
		default:
			s.Title = cmp.Or(s.Title, "How it was measured")
			h.Rest = append(h.Rest, s)
		}
	}
	for i := range data.Labels {
		data.Labels[i] = strconv.Itoa(i)
		if i < len(r.Data.Labels) {
			data.Labels[i] = firstChars(printable(firstBytes(r.Data.Labels[i], 8*maxDataText)), maxDataText)
		}
	}
	for i := range r.Layers {
		l := &r.Layers[i]
		source := &htmlStatsSource{layer: l, labels: len(data.Labels), pictures: p.layer(l.Tensor)}
		c := layerName(l.Op, l.Layers...)
		d := layerData{Name: shown(c.Short), Full: shown(c.Text), Filters: len(l.Filters), Plot: shown(l.Name()), Own: l.Head == "classifier", Inner: l.Inner}
		data.Layers = append(data.Layers, d)
		h.Layers = append(h.Layers, htmlStatsLayer{Index: i, Name: d.Name, stats: source})
	}
	data.Measures = layerMeasures(r)
	h.Drawn = drawn(r, p)
	var err error
	if h.Data, err = script(data); err != nil {
		return nil, err
	}
	if p != nil && len(p.thumbs) > 0 {
		thumbs := make(map[int]string, len(p.thumbs))
		for s, b := range p.thumbs {
			thumbs[s] = base64.StdEncoding.EncodeToString(b)
		}
		if h.Thumbs, err = script(thumbs); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// script returns JSON in which < and > are escaped.
func script(v any) (template.JS, error) {
	b, err := json.Marshal(v)
	return template.JS(b), err
}

// labelCount is K, also when the labels have no names.
func labelCount(r *probe.Result) int {
	k := len(r.Data.Labels)
	for i := range r.Layers {
		k = max(k, r.Layers[i].Stats.K)
	}
	return k
}

func statsTiles(r *probe.Result) []htmlTile {
	filters, none := 0, 0
	for i := range r.Layers {
		filters += len(r.Layers[i].Filters)
		none += r.Layers[i].Stats.WithoutCluster
	}
	tiles := []htmlTile{
		{"model accuracy", Share(r.Accuracy).Text, "chance " + Share(r.Chance).Text, ""},
		{"labels", grouped(int64(labelCount(r))), printable(r.Data.Format), ""},
		{"layers", grouped(int64(len(r.Layers))), "measured", ""},
		{"filters", grouped(int64(filters)), grouped(int64(none)) + " without a cluster", ""},
		{"samples", grouped(int64(r.Data.Fit.Samples + r.Data.Stats.Samples + r.Data.Eval.Samples)), fmt.Sprintf("%s fit, %s stats, %s eval", grouped(int64(r.Data.Fit.Samples)), grouped(int64(r.Data.Stats.Samples)), grouped(int64(r.Data.Eval.Samples))), ""},
		{"theta", strconv.FormatFloat(r.Theta, 'g', 4, 64), "of a filter's largest field", ""},
	}
	if n := len(r.Layers); n > 1 {
		first, last := r.Layers[0].Stats.SNR, r.Layers[n-1].Stats.SNR
		if first != nil && last != nil {
			tiles = append(tiles, htmlTile{"SNR", Number(*last, 2).Text, "last layer; " + Number(*first, 2).Text + " in the first", ""})
		}
	}
	return tiles
}

// layerMeasures are the curves by layer. A measure that no layer has is left out.
func layerMeasures(r *probe.Result) []measureData {
	clustered := func(f func(afcc.Averages) float64) func(*probe.Layer) *float64 {
		return func(l *probe.Layer) *float64 {
			if l.Stats.Filters == l.Stats.WithoutCluster {
				return nil
			}
			return ptrTo(f(l.Stats.Mean))
		}
	}
	all := []struct {
		measureData
		of func(*probe.Layer) *float64
	}{
		{measureData{Key: "accuracy", Name: "accuracy", Title: "top-1 accuracy of a linear head on the layer's output", Share: true, Shown: true,
			Lines: []lineData{{"chance", pageNumber(r.Chance)}, {"model", pageNumber(r.Accuracy)}}}, func(l *probe.Layer) *float64 { return &l.Accuracy }},
		{measureData{Key: "snr", Name: "SNR", Title: "signal to noise ratio S / (N_int + N_ext)", Shown: true}, func(l *probe.Layer) *float64 { return l.Stats.SNR }},
		{measureData{Key: "snr_external", Name: "S/N_ext", Title: "signal to external noise ratio"}, func(l *probe.Layer) *float64 { return l.Stats.SNRExternal }},
		{measureData{Key: "n_c", Name: "N_c", Title: "clusters of a filter, mean over filters with a cluster"}, clustered(func(a afcc.Averages) float64 { return a.Nc })},
		{measureData{Key: "c_s", Name: "C_s", Title: "labels in a cluster, mean over filters with a cluster"}, clustered(func(a afcc.Averages) float64 { return a.Cs })},
		{measureData{Key: "d", Name: "d", Title: "labels in all clusters of a filter, mean over filters with a cluster"}, clustered(func(a afcc.Averages) float64 { return a.D })},
		{measureData{Key: "n", Name: "n", Title: "ones of the clipped matrix outside the clusters, mean over filters with a cluster"}, clustered(func(a afcc.Averages) float64 { return a.N })},
		{measureData{Key: "n_internal", Name: "n int", Title: "the part of n in columns of the filter's labels"}, clustered(func(a afcc.Averages) float64 { return a.Internal })},
		{measureData{Key: "n_external", Name: "n ext", Title: "the part of n in other columns"}, clustered(func(a afcc.Averages) float64 { return a.External })},
		{measureData{Key: "without", Name: "no cluster", Title: "share of filters without a cluster", Share: true}, func(l *probe.Layer) *float64 {
			if l.Stats.Filters == 0 {
				return nil
			}
			return ptrTo(float64(l.Stats.WithoutCluster) / float64(l.Stats.Filters))
		}},
		{measureData{Key: "jaccard", Name: "stability", Title: "agreement of the filters' label sets when label means are measured on other samples, mean Jaccard index"}, func(l *probe.Layer) *float64 {
			if l.Stability == nil {
				return nil
			}
			return l.Stability.Jaccard
		}},
		{measureData{Key: "phi", Name: "stability, corrected", Title: "agreement of the label sets corrected for chance (Nogueira's Phi): 1 for equal sets, about 0 for random ones"}, func(l *probe.Layer) *float64 {
			if l.Stability == nil {
				return nil
			}
			return l.Stability.Phi
		}},
		{measureData{Key: "order", Name: "label order", Title: "spread of N_c over random label orders: standard deviation over mean", Share: true}, func(l *probe.Layer) *float64 {
			if l.Order == nil || l.Order.Nc.Mean == 0 {
				return nil
			}
			return ptrTo(l.Order.Nc.SD / l.Order.Nc.Mean)
		}},
		{measureData{Key: "confusion", Name: "confusion", Title: "how much more often the head confuses labels of one cluster than labels at random (each pair as often as clusters hold it)", Lines: []lineData{{"as at random", 1}}}, func(l *probe.Layer) *float64 {
			if l.Confusion == nil {
				return nil
			}
			return l.Confusion.WeightedLift
		}},
		{measureData{Key: "single", Name: "single filter", Title: "share of samples that one filter alone gets right, mean over filters", Share: true, Lines: []lineData{{"chance", pageNumber(r.Chance)}}}, func(l *probe.Layer) *float64 {
			sum, n := 0.0, 0
			for _, s := range l.Single {
				if s.Accuracy != nil {
					sum += *s.Accuracy
					n++
				}
			}
			if n == 0 {
				return nil
			}
			return ptrTo(sum / float64(n))
		}},
	}
	trends := r.Trends()
	falls := map[string][]probe.Step{"accuracy": trends.Accuracy.Against, "snr": trends.SNR.Against}
	var list []measureData
	for _, m := range all {
		for _, s := range falls[m.Key] {
			m.Falls = append(m.Falls, [2]int{s.From, s.To})
		}
		any := false
		for i := range r.Layers {
			v := m.of(&r.Layers[i])
			any = any || v != nil
			m.Value = append(m.Value, pageNumberOf(v))
		}
		if any {
			list = append(list, m.measureData)
		}
	}
	return list
}

func pageNumberOf(v *float64) *pageNumber {
	if v == nil {
		return nil
	}
	return ptrTo(pageNumber(*v))
}

// sweepMeasures are the curves over theta, nil unless all layers were measured at
// the same thresholds.
func sweepMeasures(r *probe.Result) (thetas []pageNumber, list []sweepMeasure) {
	if len(r.Layers) == 0 || len(r.Layers[0].Sweep) < 2 {
		return nil, nil
	}
	for _, s := range r.Layers[0].Sweep {
		thetas = append(thetas, pageNumber(s.Theta))
	}
	for i := range r.Layers {
		if !slices.EqualFunc(r.Layers[i].Sweep, r.Layers[0].Sweep, func(a, b afcc.Stats) bool { return a.Theta == b.Theta }) {
			return nil, nil
		}
	}
	for _, m := range []struct {
		sweepMeasure
		of func(*afcc.Stats) *float64
	}{
		{sweepMeasure{Name: "SNR", Title: "signal to noise ratio"}, func(s *afcc.Stats) *float64 { return s.SNR }},
		{sweepMeasure{Name: "N_c", Title: "clusters of a filter"}, func(s *afcc.Stats) *float64 { return &s.Mean.Nc }},
		{sweepMeasure{Name: "C_s", Title: "labels in a cluster"}, func(s *afcc.Stats) *float64 { return &s.Mean.Cs }},
		{sweepMeasure{Name: "d", Title: "labels of a filter"}, func(s *afcc.Stats) *float64 { return &s.Mean.D }},
		{sweepMeasure{Name: "n", Title: "noise of a filter"}, func(s *afcc.Stats) *float64 { return &s.Mean.N }},
	} {
		for i := range r.Layers {
			var row []*pageNumber
			for n := range r.Layers[i].Sweep {
				s := &r.Layers[i].Sweep[n]
				v := m.of(s)
				if s.Filters == s.WithoutCluster {
					v = nil
				}
				row = append(row, pageNumberOf(v))
			}
			m.Value = append(m.Value, row)
		}
		list = append(list, m.sweepMeasure)
	}
	return thetas, list
}

// drawn says which filters have field matrices when not all have.
func drawn(r *probe.Result, p *Pictures) []string {
	if p == nil {
		return []string{"The page was made from saved statistics, which hold no field matrices; to see them, measure with --data and -f html, or name the folder of --resume that was measured with."}
	}
	var missing []string
	for i := range r.Layers {
		l := &r.Layers[i]
		finite := 0
		for _, f := range l.Filters {
			if !f.NonFinite {
				finite++
			}
		}
		n := 0
		if lp := p.layer(l.Tensor); lp != nil {
			n = len(lp.filters)
		}
		if n < finite {
			missing = append(missing, fmt.Sprintf("%s: %s of %s", shown(layerName(l.Op, l.Layers...).Short), grouped(int64(n)), grouped(int64(finite))))
		}
	}
	if missing == nil {
		return nil
	}
	const named = 8
	if n := len(missing) - named; n > 0 {
		missing = append(missing[:named], "and so in "+plural(n, "more layer"))
	}
	return []string{fmt.Sprintf("Pictures may take %s and little time, so the page holds the field matrices of the filters with the most labels. %s. Others: --layers measures fewer layers, --plot filter:LAYER/N.png draws one.",
		Bytes(p.budget).Text, strings.Join(missing, ", "))}
}

// JSON describes the filters of a layer.
func (l htmlStatsLayer) JSON() (template.JS, error) {
	layer, k := l.stats.layer, l.stats.labels
	d := filterData{Ratios: base64.StdEncoding.EncodeToString(packRatios(layer.Filters, k))}
	for i := range layer.Filters {
		f := &layer.Filters[i]
		d.Max = append(d.Max, exact(float32(f.Max)))
		d.Counts = append(d.Counts, [4]int{f.Ones, f.Noise, f.Internal, f.External})
		clusters := f.Clusters
		if clusters == nil {
			clusters = [][]int{}
		}
		d.Clusters = append(d.Clusters, clusters)
		if f.NonFinite {
			d.NonFinite = append(d.NonFinite, i)
		}
	}
	if s := layer.Stability; s != nil && len(s.Filters) == len(layer.Filters) {
		d.Runs = s.Runs
		for i := range s.Filters {
			f := &s.Filters[i]
			d.Stable = append(d.Stable, [2]pageNumber{numberOr(f.Jaccard), numberOr(f.Phi)})
			c := make([]pageNumber, len(f.Clusters))
			for n := range c {
				c[n] = pageNumber(f.Clusters[n].Jaccard)
			}
			d.Clustered = append(d.Clustered, c)
		}
	}
	if len(layer.Single) == len(layer.Filters) {
		for _, s := range layer.Single {
			d.Single = append(d.Single, [2]pageNumber{numberOr(s.Accuracy), numberOr(s.Own)})
		}
	}
	if len(layer.Top) == len(layer.Filters) {
		for _, list := range layer.Top {
			top := make([][3]pageNumber, len(list))
			for n, s := range list {
				top[n] = [3]pageNumber{pageNumber(s.Sample), pageNumber(s.Label), pageNumber(s.Activation)}
			}
			d.Top = append(d.Top, top)
		}
	}
	if p := l.stats.pictures; p != nil {
		for _, f := range p.filters {
			d.Drawn, d.Codes = append(d.Drawn, f.filter), f.codes
			d.Low = append(d.Low, exact(f.low))
		}
	}
	return script(d)
}

// Fields is a list of the packed field matrices in the order of filterData.Drawn,
// nothing when there are none.
func (l htmlStatsLayer) Fields() template.JS {
	p := l.stats.pictures
	if p == nil || len(p.filters) == 0 {
		return ""
	}
	var b bytes.Buffer
	b.Grow(int(p.bytes) + 3*len(p.filters) + 2)
	for i, f := range p.filters {
		b.WriteByte("[,"[min(i, 1)])
		b.WriteByte('"')
		b.WriteString(base64.StdEncoding.EncodeToString(f.packed))
		b.WriteByte('"')
	}
	b.WriteByte(']')
	return template.JS(b.String())
}
