package report

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
)

const (
	// maxPageTaps bounds the rows and the columns of the heat map.
	maxPageTaps = 400
	// maxPageFlips bounds the samples that are listed, maxThumbnails those of which
	// a picture is shown.
	maxPageFlips  = 2000
	maxThumbnails = 300
	// maxChips bounds the labels that are listed of one filter on either side,
	// maxPageChips those of all filters.
	maxChips     = 24
	maxPageChips = 20_000
)

// A htmlAnswers is what both models answer.
type htmlAnswers struct {
	Tiles  []htmlTile
	Square []htmlSquareRow
	Labels *htmlGrid
	Flips  *htmlGrid
	Notes  []string
	// Thumbs are the pictures of samples, JSON.
	Thumbs template.JS
}

// A htmlSquareRow is a row of the table of both models' right and wrong answers.
type htmlSquareRow struct {
	Name  string
	Cells []htmlSquareCell
}

type htmlSquareCell struct {
	Count, Share, Class string
	Width               int
}

func newAnswers(r *Compared, pics ComparedPictures) (*htmlAnswers, error) {
	a := r.Answers
	h := &htmlAnswers{}
	var labels []string
	if r.Data != nil {
		labels = r.Data.Labels
	}
	share := func(n int) float64 { return float64(n) / float64(max(1, a.Samples)) }
	points := func(v float64) string { return fmt.Sprintf("%+.2f points", 100*v) }
	h.Tiles = []htmlTile{
		{Label: "accuracy of A", Value: Share(a.A.Top1).Text, Note: topFive(&a.A)},
		{Label: "accuracy of B", Value: Share(a.B.Top1).Text, Note: topFive(&a.B)},
		{Label: "B less A", Value: points(a.B.Top1 - a.A.Top1), Note: "p = " + strconv.FormatFloat(a.P, 'g', 3, 64)},
		{Label: "agree", Value: Share(share(a.Agree)).Text, Note: grouped(int64(a.Agree)) + " of " + plural(a.Samples, "sample")},
		{Label: "flips", Value: grouped(int64(len(a.Flips))), Note: "answers that differ"},
	}
	if a.MaxDiff != nil {
		note := "largest |b-a|"
		if a.RelDiff != nil {
			note = fourDigits(*a.RelDiff) + " of the largest |a|"
		}
		h.Tiles = append(h.Tiles, htmlTile{Label: "outputs apart", Value: fourDigits(*a.MaxDiff), Note: note})
	}
	square := func(n int, class string) htmlSquareCell {
		return htmlSquareCell{Count: grouped(int64(n)), Share: shareText(share(n)), Class: class, Width: barWidth(share(n))}
	}
	h.Square = []htmlSquareRow{
		{"A right", []htmlSquareCell{square(a.BothRight, "both"), square(a.OnlyA, "lost")}},
		{"A wrong", []htmlSquareCell{square(a.OnlyB, "won"), square(a.BothWrong, "neither")}},
	}
	h.Notes = []string{
		"p: two-sided exact McNemar test of the hypothesis that both are right equally often; a small value says that the difference is no chance of the samples.",
		"margin: the probability that a model gives to its answer less that which it gives to the other model's answer.",
	}
	if n := a.A.Unanswered + a.B.Unanswered; n > 0 {
		h.Notes = append(h.Notes, plural(n, "answer")+" could not be given, for an output is NaN; that is wrong and agrees with nothing.")
	}
	if a.Neither > 0 {
		h.Notes = append(h.Notes, plural(a.Neither, "sample")+" without an answer of either model.")
	}
	h.Labels, h.Notes = labelGrid(a, labels, h.Notes)
	h.Flips, h.Notes = flipGrid(a, labels, pics, h.Notes)
	if len(pics) > 0 {
		thumbs := make(map[int]string, len(pics))
		for s, b := range pics {
			thumbs[s] = base64.StdEncoding.EncodeToString(b)
		}
		var err error
		if h.Thumbs, err = script(thumbs); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func topFive(e *probe.Evaluation) string {
	if e.Top5 != nil {
		return "top 5: " + Share(*e.Top5).Text
	}
	return grouped(int64(e.Correct)) + " right"
}

func barWidth(v float64) int {
	if !(v > 0) {
		return 0
	}
	return int(math.Round(min(100, max(1, 100*v))))
}

// labelText is the name of a label, or its number.
func labelText(labels []string, i int) string {
	switch {
	case i < 0:
		return "no answer"
	case i < len(labels):
		return firstChars(printable(firstBytes(labels[i], 8*maxDataText)), maxDataText)
	}
	return strconv.Itoa(i)
}

// labelGrid lists the labels, those that lost most first.
func labelGrid(a *probe.Answers, labels []string, notes []string) (*htmlGrid, []string) {
	if len(a.PerLabel) == 0 {
		return nil, notes
	}
	g := &htmlGrid{Class: "labels", What: "label", Searched: true, Caption: "accuracy of each label", Heads: []htmlGridHead{{Title: "label"}, {Title: "samples", Right: true}, {Title: "A right", Right: true}, {Title: "B right", Right: true},
		{Title: "B less A", Tip: "change of the label's accuracy in points; bars to the left: B is worse", Right: true, Sorted: "ascending"}, {Title: "flips", Tip: "samples whose answers differ", Right: true}}}
	type change struct {
		label int
		by    float64
	}
	var list []change
	most := 0.0
	for i, l := range a.PerLabel {
		by := 0.0
		if l.Samples > 0 {
			by = float64(l.RightB-l.RightA) / float64(l.Samples)
		}
		list = append(list, change{i, by})
		most = max(most, math.Abs(by))
	}
	slices.SortStableFunc(list, func(x, y change) int { return cmp.Compare(x.by, y.by) })
	for _, c := range list {
		l := a.PerLabel[c.label]
		name := labelText(labels, c.label)
		right := func(n int) htmlGridCell {
			cell := gridCount(n)
			if l.Samples > 0 {
				cell.Text += " (" + percent(float64(n)/float64(l.Samples), 1).Text + ")"
				cell.Width = barWidth(float64(n) / float64(l.Samples))
			}
			return cell
		}
		by := htmlGridCell{Text: fmt.Sprintf("%+.1f", 100*c.by), Class: "num diverge", Sort: strconv.FormatFloat(c.by, 'g', -1, 64), Sorted: true}
		if c.by == 0 {
			by.Text = "0"
		}
		if l.Samples == 0 {
			by = htmlGridCell{Text: "-", Class: "num unknown"}
		}
		// Bars reach 46 per cent of the cell at the largest change.
		switch width := int(math.Round(max(1, 46*math.Abs(c.by)/max(most, 1e-12)))); {
		case c.by < 0:
			by.Minus = width
		case c.by > 0:
			by.Plus = width
		}
		g.Rows = append(g.Rows, []htmlGridCell{{Text: name, Tip: name, Class: "name"}, gridCount(l.Samples), right(l.RightA), right(l.RightB), by, gridCount(l.Flips)})
	}
	g.Rows, notes = leftOutRows(g.Rows, notes)
	return g, notes
}

// surestFlips are the flips, those that both models are surest of first.
func surestFlips(a *probe.Answers) []probe.Flip {
	flips := slices.Clone(a.Flips)
	sure := func(f *probe.Flip) float64 {
		v := 0.0
		for _, m := range []*float64{f.MarginA, f.MarginB} {
			if m != nil && *m == *m {
				v += *m
			}
		}
		return v
	}
	slices.SortStableFunc(flips, func(x, y probe.Flip) int { return cmp.Compare(sure(&y), sure(&x)) })
	return flips
}

// flipGrid lists the samples that are answered differently.
func flipGrid(a *probe.Answers, labels []string, pics ComparedPictures, notes []string) (*htmlGrid, []string) {
	if len(a.Flips) == 0 {
		return nil, notes
	}
	flips, pictured := surestFlips(a), len(pics) > 0
	if n := len(flips) - maxPageFlips; n > 0 {
		flips = flips[:maxPageFlips]
		notes = append(notes, "Flips listed are those that both models are surest of; "+leftOut(n, "flip")+".")
	}
	g := &htmlGrid{Class: "flips", What: "flip", Searched: true, Caption: "samples that are answered differently", Choices: []htmlChoice{{"", "all flips"}, {"lost", "A right, B wrong"}, {"won", "A wrong, B right"}, {"neither", "both wrong"}}}
	if pictured {
		g.Heads = append(g.Heads, htmlGridHead{Title: "picture"})
	}
	g.Heads = append(g.Heads, htmlGridHead{Title: "what"}, htmlGridHead{Title: "label", Tip: "of the data"}, htmlGridHead{Title: "A answers"}, htmlGridHead{Title: "B answers"},
		htmlGridHead{Title: "margin A", Right: true, Tip: "probability that A gives to its answer less that to B's"}, htmlGridHead{Title: "margin B", Right: true, Tip: "probability that B gives to its answer less that to A's"},
		htmlGridHead{Title: "sample", Right: true, Tip: "its number in the data set"}, htmlGridHead{Title: "name"})
	for i := range flips {
		f := &flips[i]
		kind, text := "neither", "both wrong"
		answer := func(label int) htmlGridCell {
			c := htmlGridCell{Text: labelText(labels, label), Class: "name"}
			c.Tip = c.Text
			if label == f.Label {
				c.Text, c.Class = "\u2713 "+c.Text, "name right"
			}
			return c
		}
		switch f.Label {
		case f.A:
			kind, text = "lost", "- A right, B wrong"
		case f.B:
			kind, text = "won", "+ A wrong, B right"
		}
		var row []htmlGridCell
		if pictured {
			cell := htmlGridCell{Class: "picture"}
			if pics[f.Sample] != nil {
				cell.Sample = &f.Sample
			}
			row = append(row, cell)
		}
		label := labelText(labels, f.Label)
		margin := func(v *float64) htmlGridCell {
			c := gridNumber(v, threeDecimals)
			if v != nil {
				c.Width = barWidth(*v)
			}
			return c
		}
		row = append(row, htmlGridCell{Text: text, Class: "kind-" + kind}, htmlGridCell{Text: label, Tip: label, Class: "name"}, answer(f.A), answer(f.B), margin(f.MarginA), margin(f.MarginB),
			gridCount(f.Sample), htmlGridCell{Text: shown(f.ID), Tip: shown(f.ID), Class: "name"})
		g.Rows = append(g.Rows, row)
	}
	if pictured && len(pics) < len(a.Flips) {
		notes = append(notes, fmt.Sprintf("The page holds pictures of %s of %s.", grouped(int64(len(pics))), plural(len(a.Flips), "flip")))
	}
	return g, notes
}

// A htmlLikeness is the section of what both compute inside.
type htmlLikeness struct {
	Tiles  []htmlTile
	Layers *htmlGrid
	Notes  []string
	Data   template.JS
}

type likenessData struct {
	A         []tapData       `json:"a"`
	B         []tapData       `json:"b"`
	CKA       [][]*pageNumber `json:"cka"`
	Debiased  [][]*pageNumber `json:"debiased"`
	Layers    []likenessPair  `json:"layers"`
	Parting   *int            `json:"parting"`
	Tolerance float64         `json:"tolerance"`
}

type tapData struct {
	Name string `json:"name"`
	Full string `json:"full"`
	Note string `json:"note,omitempty"`
}

type likenessPair struct {
	A     int         `json:"a"`
	B     int         `json:"b"`
	RelL2 *pageNumber `json:"rel"`
	Parts bool        `json:"parts,omitempty"`
}

func tapsData(taps []likeness.Tap) []tapData {
	out := make([]tapData, len(taps))
	for i, t := range taps {
		c := layerName(t.Op, t.Layer)
		out[i] = tapData{Name: shown(c.Short), Full: shown(t.Layer) + fmt.Sprintf(" (%s, %d x %d x %d)", shown(t.Op), t.Filters, t.Height, t.Width)}
		switch {
		case t.NotFinite:
			out[i].Note = "numbers that are not finite"
		case t.Constant:
			out[i].Note = "the same for all samples"
		}
	}
	return out
}

func newLikeness(l *likeness.Likeness) (*htmlLikeness, error) {
	h := &htmlLikeness{}
	h.Tiles = []htmlTile{{Label: "samples", Value: grouped(int64(l.Samples)), Note: "run through both"}, {Label: "layers paired", Value: grouped(int64(len(l.Layers))), Note: fmt.Sprintf("of %d in A, %d in B", len(l.A), len(l.B))}}
	parting := htmlTile{Label: "activations part", Value: "nowhere", Note: fmt.Sprintf("rel L2 at most %.3g", l.Tolerance)}
	name := func(taps []likeness.Tap, i int) (string, string) {
		if i < 0 || i >= len(taps) {
			return "-", ""
		}
		return shown(layerName(taps[i].Op, taps[i].Layer).Short), shown(taps[i].Layer)
	}
	var first *int
	if p := l.Parting; p != nil && *p >= 0 && *p < len(l.Layers) {
		short, _ := name(l.A, l.Layers[*p].A)
		first = p
		parting.Value, parting.Note = short, fmt.Sprintf("first above rel L2 %.3g", l.Tolerance)
	} else if len(l.Layers) == 0 {
		parting.Value, parting.Note = "-", "no layer has a counterpart"
	}
	h.Tiles = append(h.Tiles, parting)
	data := likenessData{Parting: first, Tolerance: l.Tolerance, Layers: []likenessPair{}}
	a, b := min(len(l.A), maxPageTaps), min(len(l.B), maxPageTaps)
	data.A, data.B = tapsData(l.A), tapsData(l.B)
	cells := func(rows [][]*float64) [][]*pageNumber {
		out := make([][]*pageNumber, 0, a)
		for _, row := range rows[:min(len(rows), a)] {
			cut := make([]*pageNumber, min(len(row), b))
			for i := range cut {
				if v := row[i]; v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) {
					// Three decimals are more than colours and readers tell apart.
					cut[i] = ptrTo(pageNumber(math.Round(*v*1e4) / 1e4))
				}
			}
			out = append(out, cut)
		}
		return out
	}
	data.CKA, data.Debiased = cells(l.CKA), cells(l.Debiased)
	if a < len(l.A) || b < len(l.B) {
		h.Notes = append(h.Notes, fmt.Sprintf("The heat map holds the first %d of %d layers of A and %d of %d of B; JSON holds all.", a, len(l.A), b, len(l.B)))
	}
	g := &htmlGrid{Class: "paired", What: "layer", Searched: true, Caption: "distance of paired layers", Heads: []htmlGridHead{{Title: "#", Right: true, Sorted: "ascending"}, {Title: "layer in A"}, {Title: "layer in B"}, {Title: "filters", Right: true, Tip: "filters compared: those of A that have a place in B"},
		{Title: "rel L2", Right: true, Tip: "||b-a|| / ||a|| over samples, filters and positions; " + distanceScale}, {Title: "max diff", Right: true, Tip: "largest |b-a| by the largest |a|"}, {Title: "cosine", Right: true},
		{Title: "CKA", Right: true, Tip: "linear centred kernel alignment"}, {Title: "debiased", Right: true, Tip: "CKA with the unbiased estimate of HSIC"}, {Title: "note"}}}
	for i, p := range l.Layers {
		data.Layers = append(data.Layers, likenessPair{p.A, p.B, finiteNumber(p.RelL2), p.Parts})
		an, af := name(l.A, p.A)
		bn, bf := name(l.B, p.B)
		rel := gridNumber(p.RelL2, fourDigits)
		rel.Width = distanceWidth(p.RelL2)
		note := shown(p.Note)
		if p.Assumed && note == "" {
			note = "places of filters assumed"
		}
		if p.Parts {
			note = "parts"
			if l.Parting != nil && *l.Parting == i {
				note = "the first that parts"
			}
		}
		g.Rows = append(g.Rows, []htmlGridCell{gridCount(i + 1), {Text: an, Tip: af, Class: "name"}, {Text: bn, Tip: bf, Class: "name"}, gridCount(p.Filters), rel,
			gridNumber(p.MaxRel, fourDigits), gridNumber(p.Cosine, cosineText), gridNumber(p.CKA, threeDecimals), gridNumber(p.Debiased, threeDecimals), {Text: note, Tip: shown(p.Note)}})
	}
	if len(g.Rows) > 0 {
		g.Rows, h.Notes = leftOutRows(g.Rows, h.Notes)
		h.Layers = g
	}
	if l.Note != "" {
		h.Notes = append(h.Notes, shown(l.Note))
	}
	var err error
	h.Data, err = script(data)
	return h, err
}

func finiteNumber(v *float64) *pageNumber {
	if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
		return nil
	}
	return ptrTo(pageNumber(*v))
}

// A htmlComparedStats is the section of both models' statistics.
type htmlComparedStats struct {
	Tiles    []htmlTile
	Warning  string
	Layers   *htmlGrid
	Filters  *htmlGrid
	Unpaired []string
	Notes    []string
	Data     template.JS
}

type comparedStatsData struct {
	Names    []string          `json:"names"`
	Full     []string          `json:"full"`
	Measures []comparedMeasure `json:"measures"`
}

// comparedMeasure is one number of every pair of layers, nil where there is none.
type comparedMeasure struct {
	Key   string        `json:"key"`
	Name  string        `json:"name"`
	Title string        `json:"title"`
	Share bool          `json:"share,omitempty"`
	Shown bool          `json:"shown,omitempty"`
	A     []*pageNumber `json:"a"`
	B     []*pageNumber `json:"b"`
}

func newComparedStats(r *Compared) (*htmlComparedStats, error) {
	s := r.Statistics
	h := &htmlComparedStats{Warning: shown(s.Otherwise)}
	h.Tiles = []htmlTile{
		{Label: "layers paired", Value: grouped(int64(len(s.Layers))), Note: grouped(int64(len(s.Unpaired))) + " without a counterpart"},
		{Label: "theta", Value: fourDigits(s.Theta), Note: "of a filter's largest field"},
	}
	if r.Answers == nil {
		h.Tiles = append(h.Tiles, htmlTile{Label: "accuracy of A", Value: Share(s.MeasuredA.Accuracy).Text, Note: "of the model, as measured"}, htmlTile{Label: "accuracy of B", Value: Share(s.MeasuredB.Accuracy).Text, Note: "of the model, as measured"})
	}
	gained, lost, sets, filters := 0, 0, 0, 0
	for i := range s.Layers {
		l := &s.Layers[i]
		gained, lost, sets, filters = gained+l.Gained, lost+l.Lost, sets+l.LabelSets, filters+l.Filters-l.Gone
	}
	h.Tiles = append(h.Tiles, htmlTile{Label: "label sets changed", Value: grouped(int64(sets)), Note: "of " + plural(filters, "filter") + " compared"},
		htmlTile{Label: "labels gained", Value: grouped(int64(gained)), Note: "by filters, in B"}, htmlTile{Label: "labels lost", Value: grouped(int64(lost)), Note: "by filters, in B"})
	data := comparedStatsData{Names: []string{}, Full: []string{}}
	for i := range s.Layers {
		l := &s.Layers[i]
		c := layerName(l.Op, l.Layer)
		data.Names = append(data.Names, shown(c.Short))
		data.Full = append(data.Full, shown(c.Text))
	}
	data.Measures = comparedMeasures(s)
	h.Layers = statisticsGrid(s)
	h.Notes = []string{
		"SNR: S / (N_int + N_ext). N_c: clusters of a filter, C_s: labels in a cluster, n: ones of the clipped matrix outside the clusters, means over filters with a cluster. Accuracy: top-1 of a linear head on the layer's output.",
		"sets changed: filters of A whose label set is another in what they have become in B; gained and lost count labels.",
	}
	for i, x := range s.Unpaired {
		if i == 30 {
			h.Unpaired = append(h.Unpaired, "and "+plural(len(s.Unpaired)-i, "more layer"))
			break
		}
		h.Unpaired = append(h.Unpaired, shown(x.Layer)+": "+shown(x.Reason))
	}
	var labels []string
	if r.Data != nil {
		labels = r.Data.Labels
	}
	h.Filters, h.Notes = labelSetGrid(s, labels, h.Notes)
	var err error
	h.Data, err = script(data)
	return h, err
}

func comparedMeasures(s *StatisticsDelta) []comparedMeasure {
	var list []comparedMeasure
	for _, m := range []struct {
		comparedMeasure
		of func(*StatisticsRow) *float64
	}{
		{comparedMeasure{Key: "accuracy", Name: "accuracy", Title: "top-1 of a linear head", Share: true, Shown: true}, func(r *StatisticsRow) *float64 { return &r.Accuracy }},
		{comparedMeasure{Key: "snr", Name: "SNR", Title: "S / (N_int + N_ext)", Shown: true}, func(r *StatisticsRow) *float64 { return r.SNR }},
		{comparedMeasure{Key: "n_c", Name: "N_c", Title: "clusters of a filter"}, func(r *StatisticsRow) *float64 { return r.Clusters }},
		{comparedMeasure{Key: "c_s", Name: "C_s", Title: "labels in a cluster"}, func(r *StatisticsRow) *float64 { return r.Size }},
		{comparedMeasure{Key: "d", Name: "d", Title: "labels of a filter"}, func(r *StatisticsRow) *float64 { return r.Labels }},
		{comparedMeasure{Key: "n", Name: "n", Title: "noise of a filter"}, func(r *StatisticsRow) *float64 { return r.Noise }},
	} {
		any := false
		for i := range s.Layers {
			a, b := finiteNumber(m.of(&s.Layers[i].A)), finiteNumber(m.of(&s.Layers[i].B))
			any = any || a != nil || b != nil
			m.A, m.B = append(m.A, a), append(m.B, b)
		}
		if any {
			list = append(list, m.comparedMeasure)
		}
	}
	return list
}

func statisticsGrid(s *StatisticsDelta) *htmlGrid {
	if len(s.Layers) == 0 {
		return nil
	}
	g := &htmlGrid{Class: "bylayer", What: "layer", Searched: true, Caption: "statistics of both models by layer", Heads: []htmlGridHead{{Title: "#", Right: true, Sorted: "ascending"}, {Title: "layer in A"}, {Title: "layer in B"}, {Title: "filters", Right: true}}}
	head := func(title, tip string) { g.Heads = append(g.Heads, htmlGridHead{Title: title, Tip: tip, Right: true}) }
	head("accuracy A", "top-1 of a linear head on the layer's output")
	head("accuracy B", "")
	head("change", "B less A, in points")
	for _, n := range []string{"SNR", "N_c", "C_s", "n"} {
		head(n+" A", "")
		head(n+" B", "")
	}
	head("sets changed", "filters of A whose label set is another in B")
	head("gained", "labels that filters have in B only")
	head("lost", "labels that filters have in A only")
	for i := range s.Layers {
		l := &s.Layers[i]
		a, b := layerName(l.Op, l.Layer), layerName(l.Op, l.LayerB)
		size := gridCount(l.A.Filters)
		if l.Gone+l.New > 0 || l.Assumed {
			size.Tip = grouped(int64(l.Gone)) + " of A have no counterpart, " + grouped(int64(l.New)) + " of B are new"
			if l.Assumed {
				size.Tip += "; places of some are assumed to be the same"
			}
		}
		if l.A.Filters != l.B.Filters {
			size.Text = grouped(int64(l.A.Filters)) + " \u2192 " + grouped(int64(l.B.Filters))
		}
		change := l.B.Accuracy - l.A.Accuracy
		two := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
		accuracy := func(v float64) string { return percent(v, 1).Text }
		row := []htmlGridCell{gridCount(i + 1), {Text: shown(a.Short), Tip: shown(a.Text), Class: "name"}, {Text: shown(b.Short), Tip: shown(b.Text), Class: "name"}, size,
			gridNumber(&l.A.Accuracy, accuracy), gridNumber(&l.B.Accuracy, accuracy), gridNumber(&change, func(v float64) string { return fmt.Sprintf("%+.1f", 100*v) })}
		for _, of := range []func(*StatisticsRow) *float64{func(r *StatisticsRow) *float64 { return r.SNR }, func(r *StatisticsRow) *float64 { return r.Clusters }, func(r *StatisticsRow) *float64 { return r.Size }, func(r *StatisticsRow) *float64 { return r.Noise }} {
			row = append(row, gridNumber(of(&l.A), two), gridNumber(of(&l.B), two))
		}
		g.Rows = append(g.Rows, append(row, gridCount(l.LabelSets), gridCount(l.Gained), gridCount(l.Lost)))
	}
	return g
}

// chipsOf counts the labels that the page lists of a filter.
func chipsOf(f *probe.FilterDifference) int {
	return min(len(f.Gained), maxChips) + min(len(f.Lost), maxChips)
}

// labelSetsShown says which filters, as layer and place in its list, the page lists
// in which labels changed: all, or those with the most changes of more than fit.
func labelSetsShown(s *StatisticsDelta) (show map[[2]int]bool, left int) {
	var all [][2]int
	for i := range s.Layers {
		for k := range s.Layers[i].Differ {
			all = append(all, [2]int{i, k})
		}
	}
	of := func(at [2]int) *probe.FilterDifference { return &s.Layers[at[0]].Differ[at[1]] }
	slices.SortStableFunc(all, func(a, b [2]int) int {
		return cmp.Compare(len(of(b).Gained)+len(of(b).Lost), len(of(a).Gained)+len(of(a).Lost))
	})
	show = make(map[[2]int]bool)
	chips := 0
	for _, at := range all {
		if chips += chipsOf(of(at)); chips > maxPageChips || len(show) == maxHTMLRows {
			return show, len(all) - len(show)
		}
		show[at] = true
	}
	return show, 0
}

// labelSetGrid lists the filters whose labels changed.
func labelSetGrid(s *StatisticsDelta, labels []string, notes []string) (*htmlGrid, []string) {
	g := &htmlGrid{Class: "labelsets", What: "filter", Searched: true, Caption: "labels that filters gained and lost", Heads: []htmlGridHead{{Title: "layer"}, {Title: "filter", Right: true, Tip: "its index in A, and in B where it is another"}, {Title: "gained", Tip: "labels that it has in B only, with their ratios to the filter's largest field in A and in B"}, {Title: "lost", Tip: "labels that it has in A only, with their ratios to the filter's largest field in A and in B"}}}
	show, left := labelSetsShown(s)
	for i := range s.Layers {
		l := &s.Layers[i]
		name := layerName(l.Op, l.Layer)
		for k, f := range l.Differ {
			if !show[[2]int{i, k}] {
				continue
			}
			cell := func(sign string, list []probe.LabelChange) htmlGridCell {
				c := htmlGridCell{Sort: strconv.Itoa(len(list)), Sorted: true, Class: "chipped"}
				for n, ch := range list {
					if n == maxChips {
						c.List = append(c.List, htmlChip{Text: "and " + grouped(int64(len(list)-n)) + " more"})
						break
					}
					ratio := func(v *float32) string {
						if v == nil {
							return "none"
						}
						return strconv.FormatFloat(float64(*v), 'f', 2, 32)
					}
					t := labelText(labels, ch.Label)
					c.List = append(c.List, htmlChip{sign + t, ratio(ch.First) + " \u2192 " + ratio(ch.Second)})
				}
				return c
			}
			gained, lost := cell("+", f.Gained), cell("-", f.Lost)
			if len(f.Gained)+len(f.Lost) == 0 {
				gained.Text = "the same labels, divided otherwise"
			}
			number := gridCount(f.Filter)
			if f.Then != nil {
				number.Text += " \u2192 " + grouped(int64(*f.Then))
			}
			g.Rows = append(g.Rows, []htmlGridCell{{Text: shown(name.Short), Tip: shown(name.Text), Class: "name"}, number, gained, lost})
		}
	}
	if left > 0 {
		notes = append(notes, "Label sets listed are those that changed most; "+leftOut(left, "filter")+".")
	}
	if len(g.Rows) == 0 {
		return nil, notes
	}
	return g, notes
}
