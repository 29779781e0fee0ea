package report

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
)

// ComparedModelsSchema names the form of ComparedModels as JSON.
const ComparedModelsSchema = "filterlens.compare-models/1"

// ComparedModels is what `compare` writes of three and more models as JSON.
type ComparedModels struct {
	Schema string `json:"schema"`
	// Given counts the models asked for, of which Models may hold the first few only.
	// Sort is the column that they are in the order of; with a - before it the worst
	// stand first.
	Given int    `json:"given"`
	Sort  string `json:"sort"`
	// Data is nil when nothing was run.
	Data *ModelsData `json:"data,omitempty"`
	// Models are sorted; those with an Error stand last.
	Models []ComparedModel `json:"models"`
	// Agreement is the share of the samples that two of Models answer alike, right or
	// wrong; on the diagonal the share that a model answers. It is nil where one of the
	// two was not run.
	Agreement [][]*float64 `json:"agreement,omitempty"`
	Warnings  []string     `json:"warnings,omitempty"`

	Definitions []string `json:"definitions"`
}

// ModelsData says on which samples models were run, and what ran them.
type ModelsData struct {
	Path    string   `json:"path"`
	Format  string   `json:"format"`
	Labels  []string `json:"labels"`
	Split   string   `json:"split"`
	Samples int      `json:"samples"`
	// SHA256 is of the names and labels of a split.
	SHA256        string            `json:"sha256,omitempty"`
	Seed          uint64            `json:"seed"`
	Engine        string            `json:"engine"`
	EngineVersion string            `json:"engine_version"`
	Provider      string            `json:"provider"`
	Skipped       []dataset.Skipped `json:"skipped,omitempty"`
}

// A ComparedModel is one of many models.
type ComparedModel struct {
	File string `json:"file"`
	// Error says why it cannot be compared with the others. What is known of it all
	// the same is there.
	Error string `json:"error,omitempty"`
	// Bytes is the size with external data. Parameters, MACs and Layers are those of
	// inspect, MACs for one sample; nil where they are not known. The Unknown ones
	// count what they leave out.
	Bytes             *int64 `json:"bytes"`
	Parameters        *int64 `json:"parameters"`
	ParametersUnknown int    `json:"parameters_unknown,omitempty"`
	MACs              *int64 `json:"macs"`
	MACsUnknown       int    `json:"macs_unknown,omitempty"`
	Layers            *int   `json:"layers"`
	// Difference is from the first model given, nil for that itself and where models
	// are run instead.
	Difference *ModelDifference `json:"difference,omitempty"`
	// Answers is nil when it was not run.
	Answers *ModelAnswers `json:"answers,omitempty"`

	// place is that among the models given.
	place int
}

// A ModelDifference says how far a model is from another, without their filters:
// what was permuted differs.
type ModelDifference struct {
	// Same is delta.Delta.Same: they differ in names, metadata and ways of writing at
	// most, and in numbers within tolerance. Digits says to how many digits these are
	// the same, nil where none differs.
	Same   bool `json:"same"`
	Digits *int `json:"digits"`
	// Matched counts the operators that have a counterpart in the other, Changed those
	// of them that differ otherwise than in numbers, or moved; Added are those that
	// only this model has, Removed those that only the other has.
	Matched int `json:"operators_matched"`
	Changed int `json:"operators_changed"`
	Added   int `json:"operators_added"`
	Removed int `json:"operators_removed"`
	// Tensors counts those whose numbers differ, NotCompared those whose shapes do.
	Tensors     int `json:"tensors_differ"`
	NotCompared int `json:"tensors_not_compared"`
	// Elements counts the numbers compared, ElementsChanged those that differ at all.
	Elements        int64 `json:"elements"`
	ElementsChanged int64 `json:"elements_changed"`
}

// ModelAnswers says how well and how fast one of many models answers.
type ModelAnswers struct {
	// Preprocess is what was done to an image for this model.
	Preprocess string `json:"preprocess"`
	// Changed, in it, is against the first model that was run.
	probe.Evaluation
	// NLL is the mean of -ln p of the right label, in nats; nil where it is not finite.
	NLL *float64 `json:"nll"`
	// Agreement is the share of the samples that the most accurate model, Best,
	// answers alike.
	Agreement float64 `json:"agreement_with_best"`
	Best      bool    `json:"best"`
	// FrontLatency and FrontMACs say that no other model is at least as accurate and
	// at least as fast, or takes at most as many MACs, and better in one of both. As
	// fast is whose median latency is not above this one's 90th percentile, faster whose
	// is below its 10th.
	FrontLatency bool `json:"front_latency"`
	FrontMACs    bool `json:"front_macs"`
}

// NewComparedModel describes a model; m is nil when it could not be read. The model
// may be closed then.
func NewComparedModel(file string, m *inspect.Model) ComparedModel {
	c := ComparedModel{File: file}
	if m == nil {
		return c
	}
	bytes, layers, parameters := plus(m.FileBytes, m.ExternalBytes), m.Totals.Layers, m.Totals.Parameters
	c.Bytes, c.Layers, c.Parameters, c.MACs = &bytes, &layers, &parameters, m.Totals.MACs
	c.ParametersUnknown, c.MACsUnknown = m.Totals.ParametersUnknown, m.Totals.MACsUnknown
	return c
}

// NewModelDifference sums up a delta.
func NewModelDifference(d *delta.Delta) *ModelDifference {
	t := d.Totals
	x := &ModelDifference{Same: d.Same, Digits: t.Digits, Added: t.Added, Removed: t.Removed, Tensors: t.TensorsDiffer, NotCompared: t.TensorsNotRead, Elements: t.Elements, ElementsChanged: t.ElementsChanged}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		if n.A == nil || n.B == nil {
			continue
		}
		x.Matched++
		if n.Moved || slices.ContainsFunc(n.Changes, func(c delta.Change) bool { return !slices.Contains([]string{"weight", "bias", "operand"}, c.What) }) {
			x.Changed++
		}
	}
	return x
}

// SetAnswers takes over what models answered; run[i] is the place in r.Models of the
// i-th of them.
func (r *ComparedModels) SetAnswers(many *probe.ManyAnswers, preprocess []string, run []int) {
	best := 0
	for i, e := range many.Evaluations {
		if e.Correct > many.Evaluations[best].Correct {
			best = i
		}
	}
	r.Agreement = make([][]*float64, len(r.Models))
	for i := range r.Agreement {
		r.Agreement[i] = make([]*float64, len(r.Models))
	}
	for i, e := range many.Evaluations {
		share := func(j int) float64 { return float64(many.Agree[i][j]) / float64(max(e.Samples, 1)) }
		r.Models[run[i]].Answers = &ModelAnswers{Preprocess: preprocess[i], Evaluation: e, NLL: many.NLL[i], Agreement: share(best), Best: i == best}
		for j := range run {
			v := share(j)
			r.Agreement[run[i]][run[j]] = &v
		}
	}
	r.markFronts()
}

// markFronts finds the models that no other beats (Pareto). Whose cost is not known
// is neither unbeaten nor beats.
func (r *ComparedModels) markFronts() {
	faster := func(a, b *ComparedModel) (atMost, less bool) {
		x, y := a.Answers.Latency, b.Answers.Latency
		return x.Median <= y.High, x.Median < y.Low
	}
	smaller := func(a, b *ComparedModel) (atMost, less bool) { return *a.MACs <= *b.MACs, *a.MACs < *b.MACs }
	var timed, counted []*ComparedModel
	for i := range r.Models {
		m := &r.Models[i]
		if m.Answers == nil {
			continue
		}
		if m.Answers.Latency != nil {
			timed = append(timed, m)
		}
		if m.MACs != nil && m.MACsUnknown == 0 {
			counted = append(counted, m)
		}
	}
	for _, m := range timed {
		m.Answers.FrontLatency = !beaten(m, timed, faster)
	}
	for _, m := range counted {
		m.Answers.FrontMACs = !beaten(m, counted, smaller)
	}
}

// beaten tells whether one of the models is as accurate as m and costs at most as
// much, and is better in one of both.
func beaten(m *ComparedModel, models []*ComparedModel, cost func(a, b *ComparedModel) (atMost, less bool)) bool {
	return slices.ContainsFunc(models, func(o *ComparedModel) bool {
		if o == m || o.Answers.Correct < m.Answers.Correct {
			return false
		}
		atMost, less := cost(o, m)
		return atMost && (less || o.Answers.Correct > m.Answers.Correct)
	})
}

// A modelColumn is what models can be sorted by: less is better, but for More.
type modelColumn struct {
	name string
	more bool
	// data tells that models must be run, nodata that they must not.
	data, nodata bool
	of           func(*ComparedModel) *float64
}

func asFloat[T int | int64 | float64](v *T) *float64 {
	if v == nil {
		return nil
	}
	f := float64(*v)
	return &f
}

func modelColumns() []modelColumn {
	answer := func(of func(*ModelAnswers) *float64) func(*ComparedModel) *float64 {
		return func(m *ComparedModel) *float64 {
			if m.Answers == nil {
				return nil
			}
			return of(m.Answers)
		}
	}
	return []modelColumn{
		{name: "order", of: func(m *ComparedModel) *float64 { return asFloat(&m.place) }},
		{name: "file"},
		{name: "size", of: func(m *ComparedModel) *float64 { return asFloat(m.Bytes) }},
		{name: "parameters", of: func(m *ComparedModel) *float64 { return asFloat(m.Parameters) }},
		{name: "macs", of: func(m *ComparedModel) *float64 { return asFloat(m.MACs) }},
		{name: "layers", of: func(m *ComparedModel) *float64 { return asFloat(m.Layers) }},
		{name: "changed", nodata: true, of: func(m *ComparedModel) *float64 {
			if m.Difference == nil {
				return new(float64) // the first itself
			}
			v := m.Difference.changedShare()
			return &v
		}},
		{name: "top1", more: true, data: true, of: answer(func(a *ModelAnswers) *float64 { return &a.Top1 })},
		{name: "top5", more: true, data: true, of: answer(func(a *ModelAnswers) *float64 { return a.Top5 })},
		{name: "nll", data: true, of: answer(func(a *ModelAnswers) *float64 { return a.NLL })},
		{name: "agreement", more: true, data: true, of: answer(func(a *ModelAnswers) *float64 { return &a.Agreement })},
		{name: "latency", data: true, of: answer(func(a *ModelAnswers) *float64 {
			if a.Latency == nil {
				return nil
			}
			return &a.Latency.Median
		})},
		{name: "throughput", more: true, data: true, of: answer(func(a *ModelAnswers) *float64 { return perSecond(a.Throughput) })},
	}
}

// changedShare is the share of the numbers compared that differ; operators that are
// others, and tensors of other shapes, count as if all did.
func (d *ModelDifference) changedShare() float64 {
	v := 0.0
	if d.Elements > 0 {
		v = float64(d.ElementsChanged) / float64(d.Elements)
	}
	return v + float64(d.Changed+d.Added+d.Removed+d.NotCompared)
}

// perSecond turns the time for a sample into samples a second.
func perSecond(t *probe.Timing) *float64 {
	if t == nil || t.Median <= 0 {
		return nil
	}
	v := 1000 / t.Median
	return &v
}

// ModelColumns lists the columns that models can be sorted by; data says that they
// are run.
func ModelColumns(data bool) (names []string) {
	for _, c := range modelColumns() {
		if c.data && !data || c.nodata && data {
			continue
		}
		names = append(names, c.name)
	}
	return names
}

// Arrange sorts r.Models, which must be in the order given, by a column of
// ModelColumns, the best first: the largest of what is an accuracy, an agreement or a
// throughput, the smallest of all else. With a - before the column the worst stand
// first. What is not known stands last in either case, and behind it models with an
// error. top, when positive, leaves as many of the others, and all with an error.
func (r *ComparedModels) Arrange(column string, top int) {
	r.Given, r.Sort = len(r.Models), column
	name, worst := strings.CutPrefix(column, "-")
	at := slices.IndexFunc(modelColumns(), func(c modelColumn) bool { return c.name == name })
	col := modelColumns()[max(at, 0)]
	for i := range r.Models {
		r.Models[i].place = i
	}
	compare := func(a, b *ComparedModel) int {
		if col.of == nil {
			return strings.Compare(a.File, b.File)
		}
		x, y := col.of(a), col.of(b)
		if col.more {
			return cmp.Compare(*y, *x)
		}
		return cmp.Compare(*x, *y)
	}
	rank := func(m *ComparedModel) int {
		switch {
		case m.Error != "":
			return 2
		case col.of != nil && col.of(m) == nil:
			return 1
		}
		return 0
	}
	sorted := slices.Clone(r.Models)
	slices.SortStableFunc(sorted, func(a, b ComparedModel) int {
		if c := cmp.Compare(rank(&a), rank(&b)); c != 0 || rank(&a) > 0 {
			return c
		}
		if worst {
			return compare(&b, &a)
		}
		return compare(&a, &b)
	})
	if top > 0 {
		whole := 0
		sorted = slices.DeleteFunc(sorted, func(m ComparedModel) bool {
			whole++
			return m.Error == "" && whole > top
		})
	}
	r.Models = sorted
	if r.Agreement == nil {
		return
	}
	agreement := make([][]*float64, len(sorted))
	for i := range sorted {
		for j := range sorted {
			agreement[i] = append(agreement[i], r.Agreement[sorted[i].place][sorted[j].place])
		}
	}
	r.Agreement = agreement
}

// FromComparedModels shows many models, a row each. matrix asks for how far each
// agrees with each.
func FromComparedModels(r *ComparedModels, matrix bool) Document {
	d := Document{Title: plural(r.Given, "model"), Warnings: r.Warnings}
	t := &Table{Main: true, Columns: []Column{{Title: "model", Key: "file", Shrink: true}}}
	run := r.Data != nil
	if run {
		t.Columns = append(t.Columns,
			Column{Title: "top-1", Key: "top1", Right: true},
			Column{Title: "top-5", Key: "top5", Right: true, Drop: 6},
			Column{Title: "NLL", Key: "nll", Right: true, Drop: 5},
			Column{Title: "agrees", Key: "agreement_with_best", Right: true, Drop: 2},
			Column{Title: "ms", Key: "latency_median_ms", Right: true},
			Column{Title: "p10", Key: "latency_p10_ms", Hidden: true},
			Column{Title: "p90", Key: "latency_p90_ms", Hidden: true},
			Column{Title: "images/s", Key: "images_per_second", Right: true, Drop: 7},
			Column{Title: "front", Key: "front", Drop: 1})
	}
	t.Columns = append(t.Columns,
		Column{Title: "MACs", Key: "macs", Right: true},
		Column{Key: "macs_unknown", Hidden: true},
		Column{Title: "params", Key: "parameters", Right: true, Drop: 3},
		Column{Key: "parameters_unknown", Hidden: true},
		Column{Title: "size", Key: "bytes", Right: true, Drop: 8},
		Column{Title: "layers", Key: "layers", Right: true, Drop: 9})
	if run {
		t.Columns = append(t.Columns, Column{Key: "samples", Hidden: true}, Column{Key: "preprocess", Hidden: true}, Column{Key: "engine", Hidden: true}, Column{Key: "engine_version", Hidden: true}, Column{Key: "provider", Hidden: true})
	} else {
		t.Columns = append(t.Columns, Column{Key: "same", Hidden: true}, Column{Key: "operators_matched", Hidden: true}, Column{Key: "operators_changed", Hidden: true}, Column{Key: "operators_added", Hidden: true}, Column{Key: "operators_removed", Hidden: true},
			Column{Key: "tensors_differ", Hidden: true}, Column{Key: "tensors_not_compared", Hidden: true}, Column{Key: "elements", Hidden: true}, Column{Key: "elements_changed", Hidden: true})
	}
	t.Columns = append(t.Columns, Column{Title: "against the first", Key: "error", Sparse: true, Hidden: run, Wrap: true})
	unknown := false
	for i := range r.Models {
		m := &r.Models[i]
		unknown = unknown || m.MACsUnknown+m.ParametersUnknown > 0
		row := []Cell{r.modelName(i)}
		if run {
			row = append(row, answerCells(m.Answers)...)
		}
		macsUnknown, parametersUnknown := unread, unread
		if m.Parameters != nil {
			macsUnknown, parametersUnknown = Count(int64(m.MACsUnknown)), Count(int64(m.ParametersUnknown))
		}
		row = append(row, atLeast(optional(m.MACs, Scaled, unread), m.MACsUnknown), macsUnknown,
			atLeast(optional(m.Parameters, Scaled, unread), m.ParametersUnknown), parametersUnknown,
			optional(m.Bytes, Bytes, unread), optional(m.Layers, func(n int) Cell { return Count(int64(n)) }, unread))
		if run {
			row = append(row, runCells(r.Data, m.Answers)...)
		} else {
			row = append(row, differenceCells(m.Difference)...)
		}
		last := Cell{Text: m.Error, Raw: m.Error, Tone: Removed}
		if m.Error == "" {
			last = Cell{Raw: ""}
			if !run {
				last.Text = m.Difference.text()
			}
		}
		t.Rows = append(t.Rows, append(row, last))
	}
	s := Section{Table: t}
	if run {
		s.Facts = r.dataFacts()
	}
	s.Notes = append(r.notes(unknown), r.Definitions...)
	d.Sections = append(d.Sections, s)
	if run {
		failed := Section{Title: "Not compared"}
		for i := range r.Models {
			if e := r.Models[i].Error; e != "" {
				failed.Facts = append(failed.Facts, Fact{r.Models[i].File, Cell{Text: e, Raw: e, Tone: Removed}})
			}
		}
		if len(failed.Facts) > 0 {
			d.Sections = append(d.Sections, failed)
		}
	}
	if matrix && run && len(r.Models) > 1 {
		d.Sections = append(d.Sections, r.matrixSection())
	}
	return d
}

func (r *ComparedModels) notes(unknown bool) (notes []string) {
	order := "best first by " + r.Sort
	switch name, worst := strings.CutPrefix(r.Sort, "-"); {
	case r.Sort == "order":
		order = "in the order given"
	case worst:
		order = "worst first by " + name
	}
	if n := r.Given - len(r.Models); n > 0 {
		order += fmt.Sprintf("; %s not listed", plural(n, "model"))
	}
	notes = append(notes, order)
	busy := 0
	for i := range r.Models {
		if a := r.Models[i].Answers; a != nil && a.Latency != nil && a.Latency.High > 2*a.Latency.Low {
			busy++
		}
	}
	if busy > 0 {
		notes = append(notes, fmt.Sprintf("times of %s are unsteady (90th percentile over twice the 10th): the machine was busy; measure again before trusting them", plural(busy, "model")))
	}
	if unknown {
		notes = append(notes, ">=: what is unknown of some nodes and tensors is left out")
	}
	return notes
}

// ModelsDefinitions say what the numbers of many models are; data says that they were
// run.
func ModelsDefinitions(data bool) []string {
	list := []string{"MACs: multiply-accumulates of one sample; params: elements of weights and biases; size: of the file and of external data"}
	if !data {
		return append(list, "against the first: operators matched as compare does for two models, weights by value; filters are not looked for, so that what was permuted differs; share: of the numbers compared, those that differ at all")
	}
	return append(list,
		"top-1, top-5: share of samples whose label has the largest output, or is among the five largest; - for fewer than six labels",
		"NLL: mean of -ln p of the right label, p by the softmax of the outputs; agrees: share of samples with the answer of the most accurate model, right or wrong",
		"ms: median time of one sample; images/s: median over batches; models take turns, decoding is left out",
		"front: no other model is at least as accurate and at least as fast (ms), or takes at most as many MACs (MACs), and better in one of both; as fast: with a median within the 90th percentile, faster: below the 10th")
}

func (r *ComparedModels) dataFacts() []Fact {
	x := r.Data
	facts := []Fact{{"data", Words(x.Path + " (" + x.Format + ")")}, {"labels", Count(int64(len(x.Labels)))}}
	samples := fmt.Sprintf("%s, %s", x.Split, plural(x.Samples, "sample"))
	if x.SHA256 != "" {
		samples += fmt.Sprintf(", seed %d, sha256 %s", x.Seed, shortHash(x.SHA256))
	}
	facts = append(facts, Fact{"samples", Words(samples)})
	var kinds []string
	for i := range r.Models {
		if a := r.Models[i].Answers; a != nil && !slices.Contains(kinds, a.Preprocess) {
			kinds = append(kinds, a.Preprocess)
		}
	}
	switch {
	case len(kinds) == 1:
		facts = append(facts, Fact{"preprocessing", Words(kinds[0])})
	case len(kinds) > 1:
		facts = append(facts, Fact{"preprocessing", Words(fmt.Sprintf("each model its own: %s", strings.Join(kinds, " or ")))})
	}
	return append(facts, Fact{"run on", Words(runOn(x.Engine, x.EngineVersion, x.Provider, nil, nil))})
}

// modelName is the path of a model; short, the folders go, unless that makes two look
// the same.
func (r *ComparedModels) modelName(i int) Cell {
	c := Words(r.Models[i].File)
	base := filepath.Base(r.Models[i].File)
	for j := range r.Models {
		if j != i && r.Models[j].File != r.Models[i].File && filepath.Base(r.Models[j].File) == base {
			return c
		}
	}
	c.Short = base
	return c
}

func answerCells(a *ModelAnswers) []Cell {
	if a == nil {
		return []Cell{unread, unread, unread, unread, unread, unread, unread, unread, {Raw: ""}}
	}
	latency := []Cell{unread, unread, unread}
	if l := a.Latency; l != nil {
		latency = []Cell{milliseconds(l.Median), milliseconds(l.Low), milliseconds(l.High)}
	}
	agrees := Share(a.Agreement)
	if a.Best {
		agrees.Text = "best"
	}
	var front []string
	if a.FrontLatency {
		front = append(front, "ms")
	}
	if a.FrontMACs {
		front = append(front, "MACs")
	}
	f := Words(strings.Join(front, " "))
	if len(front) > 0 {
		f.Tone = Added
	}
	cells := []Cell{Share(a.Top1), optional(a.Top5, Share, unread), optional(a.NLL, decimals(3), unread), agrees}
	rate := optional(perSecond(a.Throughput), func(v float64) Cell { return Cell{Text: digits(v, 4), Raw: v} }, unread)
	return append(append(cells, latency...), rate, f)
}

func runCells(d *ModelsData, a *ModelAnswers) []Cell {
	if a == nil {
		return []Cell{unread, unread, unread, unread, unread}
	}
	return []Cell{Count(int64(a.Samples)), Words(a.Preprocess), Words(d.Engine), Words(d.EngineVersion), Words(d.Provider)}
}

func differenceCells(d *ModelDifference) []Cell {
	if d == nil {
		return slices.Repeat([]Cell{unread}, 9)
	}
	cells := []Cell{{Text: fmt.Sprint(d.Same), Raw: d.Same}}
	for _, n := range []int64{int64(d.Matched), int64(d.Changed), int64(d.Added), int64(d.Removed), int64(d.Tensors), int64(d.NotCompared), d.Elements, d.ElementsChanged} {
		cells = append(cells, Count(n))
	}
	return cells
}

// text says in a few words how a model differs from the first.
func (d *ModelDifference) text() string {
	switch {
	case d == nil:
		return "is the first"
	case d.Matched < d.Removed:
		return fmt.Sprintf("another architecture: %s of %s match", grouped(int64(d.Matched)), plural(d.Matched+d.Removed, "operator"))
	case d.Same && d.ElementsChanged == 0:
		return "the same"
	case d.Same && d.Digits != nil:
		return "the same to " + plural(*d.Digits, "digit")
	case d.Same:
		return "the same within tolerance"
	}
	var parts []string
	if s := counts(d.Changed, "changed", d.Added, "added", d.Removed, "removed"); s != "" {
		parts = append(parts, "operators "+s)
	}
	if d.NotCompared > 0 {
		parts = append(parts, plural(d.NotCompared, "tensor")+" of another shape")
	}
	if d.Tensors > 0 {
		parts = append(parts, fmt.Sprintf("%s, %s of the weights", plural(d.Tensors, "tensor"), Share(float64(d.ElementsChanged)/float64(max(d.Elements, 1))).Text))
	}
	if len(parts) == 0 {
		return "other inputs or outputs"
	}
	return strings.Join(parts, "; ")
}

// counts writes "3 changed, 1 added" of those that are not zero.
func counts(pairs ...any) string {
	var parts []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if n := pairs[i].(int); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", grouped(int64(n)), pairs[i+1]))
		}
	}
	return strings.Join(parts, ", ")
}

func (r *ComparedModels) matrixSection() Section {
	t := &Table{Columns: []Column{{Title: "", Right: true}, {Title: "model", Shrink: true}}}
	var shown []int
	for i := range r.Models {
		if r.Models[i].Answers != nil {
			shown = append(shown, i)
			t.Columns = append(t.Columns, Column{Title: fmt.Sprint(len(shown)), Right: true})
		}
	}
	for n, i := range shown {
		row := []Cell{Count(int64(n + 1)), r.modelName(i)}
		for _, j := range shown {
			row = append(row, optional(r.Agreement[i][j], func(v float64) Cell { return percent(v, 1) }, unread))
		}
		t.Rows = append(t.Rows, row)
	}
	return Section{Title: "Agreement", Table: t, Notes: []string{"share of samples that two models answer alike, right or wrong; columns by the numbers of the rows"}}
}
