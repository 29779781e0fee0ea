package report

import (
	"html/template"
	"math"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect/delta"
)

// maxPageFilters bounds the filters that are told one by one, those that stay what
// and where they were not counted.
const maxPageFilters = 300_000

// A htmlFilterMaps is what became of the filters of all layers.
type htmlFilterMaps struct {
	// Bar sums up all layers, a part for each kind.
	Bar    []htmlFilterKind
	Layers []htmlFilterLayer
	// Quiet counts the layers of which all filters stay where they are.
	Quiet   string
	Numbers *htmlGrid
	Notes   []string
	// Data describes the filters of each layer, JSON.
	Data template.JS
}

type htmlFilterKind struct {
	Kind, Count, Share string
	Width              int
}

type htmlFilterLayer struct {
	Index          int
	Name, Full, Op string
	Size, Text     string
	Note           string
	Quiet          bool
	Kinds          []htmlFilterKind
}

type filterCount struct {
	kind  delta.FilterKind
	count int
}

// filterCounts lists the counts in the order of the legend.
func filterCounts(c *delta.FilterCounts) []filterCount {
	return []filterCount{{delta.FilterKept, c.Kept}, {delta.FilterMoved, c.Moved}, {delta.FilterScaled, c.Scaled}, {delta.FilterChanged, c.Changed}, {delta.FilterGone, c.Gone}, {delta.FilterNew, c.New}}
}

// filterKinds numbers the kinds for the script.
var filterKinds = [...]delta.FilterKind{delta.FilterKept, delta.FilterMoved, delta.FilterScaled, delta.FilterChanged, delta.FilterGone, delta.FilterNew}

// filterLayerData describes a layer to the script. Filters lists those that are not
// kept at their index: kind, index in A, in B, similarity, scale, and whether the
// bias changed (1) and the partner is unclear (2).
type filterLayerData struct {
	A       int             `json:"a"`
	B       int             `json:"b"`
	Filters [][6]pageNumber `json:"f"`
	// Cut says that the filters are not told one by one.
	Cut bool `json:"cut,omitempty"`
}

func newFilterMaps(d *delta.Delta) (*htmlFilterMaps, error) {
	h := &htmlFilterMaps{}
	var data []filterLayerData
	var total delta.FilterCounts
	room, cut, quiet, unread := maxPageFilters, 0, 0, 0
	h.Numbers = &htmlGrid{Class: "filtercounts", What: "layer", Searched: true, Caption: "filters of each layer by kind", Heads: []htmlGridHead{{Title: "layer in A"}, {Title: "layer in B"}, {Title: "operator"},
		{Title: "filters A", Right: true}, {Title: "filters B", Right: true}, {Title: "kept", Right: true, Tip: kindMeaning(delta.FilterKept)}, {Title: "moved", Right: true, Tip: kindMeaning(delta.FilterMoved)}, {Title: "scaled", Right: true, Tip: kindMeaning(delta.FilterScaled)},
		{Title: "changed", Right: true, Tip: kindMeaning(delta.FilterChanged)}, {Title: "gone", Right: true, Tip: kindMeaning(delta.FilterGone)}, {Title: "new", Right: true, Tip: kindMeaning(delta.FilterNew)}, {Title: "unclear", Right: true, Tip: "filters for which another partner is as likely"},
		{Title: "least similar", Right: true, Tip: "least cosine of a filter of A that lives on with the one that it has become"}}}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		f := n.Filters
		if f == nil || n.A == nil || n.B == nil {
			continue
		}
		if f.Note != "" {
			unread++
		}
		l := htmlFilterLayer{Index: len(h.Layers), Name: shortName(n.A.Name), Full: shown(n.A.Name), Op: shown(n.A.Op), Size: plural(f.CountA, "filter"), Note: shown(f.Note)}
		if f.CountA != f.CountB {
			l.Size = grouped(int64(f.CountA)) + " \u2192 " + plural(f.CountB, "filter")
		}
		l.Quiet = f.Note == "" && len(f.Filters) == 0
		if l.Quiet {
			quiet++
		}
		for _, k := range filterCounts(&f.FilterCounts) {
			if k.count > 0 {
				l.Kinds = append(l.Kinds, htmlFilterKind{Kind: string(k.kind), Count: grouped(int64(k.count))})
			}
		}
		var notes []string
		if f.Unclear > 0 {
			notes = append(notes, grouped(int64(f.Unclear))+" unclear")
		}
		if c := channelText(&f.Channels); c != "" {
			notes = append(notes, c)
		}
		l.Text = strings.Join(notes, "; ")
		x := filterLayerData{A: f.CountA, B: f.CountB, Filters: [][6]pageNumber{}}
		if len(f.Filters) > room {
			x.Cut = true
			cut += len(f.Filters)
		} else {
			room -= len(f.Filters)
			for _, one := range f.Filters {
				x.Filters = append(x.Filters, filterNumbers(&one))
			}
		}
		data = append(data, x)
		h.Layers = append(h.Layers, l)
		addFilterCounts(&total, &f.FilterCounts)
		if !l.Quiet {
			h.Numbers.Rows = append(h.Numbers.Rows, filterGridRow(n, f))
		}
	}
	if len(h.Layers) == 0 {
		return nil, nil
	}
	sum := 0
	for _, k := range filterCounts(&total) {
		sum += k.count
	}
	for _, k := range filterCounts(&total) {
		e := htmlFilterKind{Kind: string(k.kind), Count: grouped(int64(k.count))}
		if k.count > 0 {
			e.Share = shareText(float64(k.count) / float64(sum))
			e.Width = max(1, int(math.Round(100*float64(k.count)/float64(sum))))
		}
		h.Bar = append(h.Bar, e)
	}
	if quiet > 0 {
		h.Quiet = plural(quiet, "layer") + " whose filters are all kept in place"
	}
	if cut > 0 {
		h.Notes = append(h.Notes, leftOut(cut, "filter"))
	}
	if unread > 0 {
		h.Notes = append(h.Notes, "In "+plural(unread, "layer")+" filters were not looked for; the reason stands there.")
	}
	h.Numbers.Rows, h.Notes = leftOutRows(h.Numbers.Rows, h.Notes)
	h.Notes = append(h.Notes, "Filters are paired by the cosine of their weights, after the channels that they read have been put into the order found for the layers before. At less than "+strconv.FormatFloat(d.Similarity, 'g', 3, 64)+", or what chance reaches where a filter has few weights, a filter counts as gone.")
	var err error
	h.Data, err = script(data)
	return h, err
}

func kindMeaning(k delta.FilterKind) string {
	switch k {
	case delta.FilterKept:
		return "same weights and bias, at its index or in its order"
	case delta.FilterMoved:
		return "same weights and bias at another index"
	case delta.FilterScaled:
		return "weights that are a multiple of those in A"
	case delta.FilterChanged:
		return "other but similar weights, or another bias"
	case delta.FilterGone:
		return "no filter of B is similar"
	case delta.FilterNew:
		return "no filter of A is similar"
	}
	return ""
}

func addFilterCounts(t, c *delta.FilterCounts) {
	t.Kept += c.Kept
	t.Moved += c.Moved
	t.Scaled += c.Scaled
	t.Changed += c.Changed
	t.Gone += c.Gone
	t.New += c.New
	t.Unclear += c.Unclear
}

func filterNumbers(f *delta.Filter) [6]pageNumber {
	index := func(p *int) pageNumber {
		if p == nil {
			return -1
		}
		return pageNumber(*p)
	}
	kind := 0
	for i, k := range filterKinds {
		if k == f.Kind {
			kind = i
		}
	}
	flags := 0
	if f.BiasChanged {
		flags |= 1
	}
	if f.Unclear {
		flags |= 2
	}
	return [6]pageNumber{pageNumber(kind), index(f.From), index(f.To), numberOr(f.Similarity), numberOr(f.Scale), pageNumber(flags)}
}

func filterGridRow(n *delta.NodeDelta, f *delta.FilterDelta) []htmlGridCell {
	least := math.NaN()
	for _, x := range f.Filters {
		if x.Kind != delta.FilterGone && x.Similarity != nil && !(*x.Similarity >= least) {
			least = *x.Similarity
		}
	}
	name := func(s string) htmlGridCell {
		return htmlGridCell{Text: shortName(s), Tip: shown(s), Class: "name"}
	}
	cells := []htmlGridCell{name(n.A.Name), name(n.B.Name), textCell(shown(n.A.Op)), gridCount(f.CountA), gridCount(f.CountB)}
	for _, k := range filterCounts(&f.FilterCounts) {
		cells = append(cells, gridCount(k.count))
	}
	return append(cells, gridCount(f.Unclear), gridNumber(&least, cosineText))
}

// channelText says what became of the channels that a layer reads, "" when nothing
// did.
func channelText(c *delta.ChannelDelta) string {
	var parts []string
	if c.CountA != c.CountB {
		parts = append(parts, "reads "+grouped(int64(c.CountA))+" \u2192 "+plural(c.CountB, "channel"))
	}
	if c.Gone > 0 {
		parts = append(parts, grouped(int64(c.Gone))+" of them gone")
	}
	if c.New > 0 {
		parts = append(parts, grouped(int64(c.New))+" new")
	}
	if !c.InOrder && c.CountA+c.CountB > 0 {
		parts = append(parts, "channels in another order")
	}
	if c.Scaled {
		parts = append(parts, "scales of the layer before taken out")
	}
	if c.Assumed {
		parts = append(parts, "order of the channels assumed")
	}
	if c.Ignored {
		parts = append(parts, "weights by place although channels moved")
	}
	return strings.Join(parts, ", ")
}
