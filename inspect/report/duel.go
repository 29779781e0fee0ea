package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine/duel"
)

// DuelSchema names the form of Duel as JSON.
const DuelSchema = "filterlens.duel/1"

// A Duel is what `eval --engine both` writes as JSON: one model on two engines.
type Duel struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	// Data says which samples were run; nil when they were random numbers.
	Data *DuelData `json:"data,omitempty"`
	// Seed is that of splits, or of the random numbers.
	Seed uint64 `json:"seed"`
	// RTol and ATol: numbers agree when they differ by at most ATol plus RTol times
	// the largest magnitude of their sample or tensor.
	RTol float64 `json:"rtol"`
	ATol float64 `json:"atol"`
	// Agree tells that no sample and no tensor is beyond that.
	Agree   bool         `json:"agree"`
	Engines []DuelEngine `json:"engines"`
	Outputs []DuelOutput `json:"outputs"`
	// Tensors were compared on one sample, which Sample and ID name: that which
	// differs most, else the first. Parting is the first tensor that is beyond the
	// tolerance, Agreeing the last on the way to it that is not.
	Sample   int         `json:"sample"`
	ID       string      `json:"id,omitempty"`
	Parting  *DuelTensor `json:"parting"`
	Agreeing *DuelTensor `json:"agreeing"`
	// SkippedTensors counts those that no engine can hand out.
	Tensors        []DuelTensor      `json:"tensors"`
	SkippedTensors int               `json:"skipped_tensors"`
	Skipped        []dataset.Skipped `json:"skipped,omitempty"`
	Warnings       []string          `json:"warnings,omitempty"`
}

// DuelData is the data of a Duel, as in Evaluations.
type DuelData struct {
	Path       string `json:"path"`
	Format     string `json:"format"`
	Labels     int    `json:"labels"`
	Split      string `json:"split"`
	SHA256     string `json:"sha256,omitempty"`
	Preprocess string `json:"preprocess"`
}

// A DuelEngine is one of the two engines. Evaluation is nil without data.
type DuelEngine struct {
	Engine        string            `json:"engine"`
	EngineVersion string            `json:"engine_version"`
	Provider      string            `json:"provider"`
	Evaluation    *probe.Evaluation `json:"evaluation,omitempty"`
}

// A DuelOutput says how an output of the model differs.
type DuelOutput struct {
	Name    string `json:"name"`
	Samples int    `json:"samples"`
	Values  int64  `json:"values"`
	// Beyond counts samples beyond the tolerance.
	Beyond int `json:"beyond"`
	// Absolute is where the numbers differ most, Relative where they do as a share of
	// the largest magnitude of the sample; nil when all are equal.
	Absolute *DuelExtreme `json:"absolute"`
	Relative *DuelExtreme `json:"relative"`
	// Answers lists the samples whose largest number is another.
	Answers []DuelAnswer `json:"answers"`
}

// A DuelExtreme is a number of an output on which the engines differ most. A, B and
// Difference are nil when not finite; Label is the label that the number is of.
type DuelExtreme struct {
	Sample     int      `json:"sample"`
	ID         string   `json:"id,omitempty"`
	Value      int      `json:"value"`
	Label      string   `json:"label,omitempty"`
	A          *float64 `json:"a"`
	B          *float64 `json:"b"`
	Difference *float64 `json:"difference"`
}

// A DuelAnswer is a sample for which the engines answer differently: A and B are
// positions in the output, -1 where no output is a number, ALabel and BLabel the
// labels there, Label the sample's own.
type DuelAnswer struct {
	Sample int    `json:"sample"`
	ID     string `json:"id,omitempty"`
	Label  string `json:"label,omitempty"`
	A      int    `json:"a"`
	ALabel string `json:"a_label,omitempty"`
	B      int    `json:"b"`
	BLabel string `json:"b_label,omitempty"`
}

// A DuelTensor is a tensor within the graph. MaxAbs, A and B are nil when not finite,
// MaxRel, the share of Largest, as well; At is where.
type DuelTensor struct {
	Node    int      `json:"node"`
	Name    string   `json:"name"`
	Op      string   `json:"op"`
	Tensor  string   `json:"tensor"`
	DType   string   `json:"dtype"`
	Values  int64    `json:"values"`
	Largest float64  `json:"largest"`
	MaxAbs  *float64 `json:"max_abs"`
	MaxRel  *float64 `json:"max_rel"`
	At      []int64  `json:"at,omitempty"`
	A       *float64 `json:"a"`
	B       *float64 `json:"b"`
	Beyond  bool     `json:"beyond"`
}

// Samples says what the numbers of samples and outputs stand for. Each function may
// be nil.
type Samples struct {
	// ID names a sample, Label says which label it has, Output which label an output
	// stands for.
	ID, Label func(sample int) string
	Output    func(value int) string
}

func (s Samples) of(f func(int) string, i int) string {
	if f == nil || i < 0 {
		return ""
	}
	return f(i)
}

// Add puts the outputs and the tensors that were compared into d, names samples, and
// decides whether the engines agree. sample is the one that t is of.
func (d *Duel) Add(outputs []duel.Output, t *duel.Trail, sample int, names Samples) {
	d.Agree = t.Parting == nil
	d.Outputs, d.Tensors = []DuelOutput{}, []DuelTensor{}
	for _, o := range outputs {
		d.Agree = d.Agree && o.Beyond == 0
		out := DuelOutput{Name: o.Name, Samples: o.Samples, Values: o.Values, Beyond: o.Beyond, Answers: []DuelAnswer{},
			Absolute: names.extreme(o.Absolute), Relative: names.extreme(o.Relative)}
		for _, a := range o.Answers {
			out.Answers = append(out.Answers, DuelAnswer{Sample: a.Sample, ID: names.of(names.ID, a.Sample), Label: names.of(names.Label, a.Sample),
				A: a.A, ALabel: names.of(names.Output, a.A), B: a.B, BLabel: names.of(names.Output, a.B)})
		}
		d.Outputs = append(d.Outputs, out)
	}
	d.Sample, d.ID = sample, names.of(names.ID, sample)
	d.Parting, d.Agreeing, d.SkippedTensors = duelTensor(t.Parting), duelTensor(t.Agreeing), t.Skipped
	for i := range t.Taps {
		d.Tensors = append(d.Tensors, *duelTensor(&t.Taps[i]))
	}
}

func (s Samples) extreme(e duel.Extreme) *DuelExtreme {
	if e.Sample < 0 || e.Difference == 0 {
		return nil
	}
	return &DuelExtreme{Sample: e.Sample, ID: s.of(s.ID, e.Sample), Value: e.Value, Label: s.of(s.Output, e.Value), A: finite(e.A), B: finite(e.B), Difference: finite(e.Difference)}
}

func duelTensor(t *duel.Tap) *DuelTensor {
	if t == nil {
		return nil
	}
	return &DuelTensor{Node: t.Node, Name: t.Name, Op: t.Op, Tensor: t.Tensor, DType: t.DType, Values: t.Values, Largest: t.Largest,
		MaxAbs: finite(t.Max), MaxRel: finite(t.Relative()), At: t.At, A: finite(t.A), B: finite(t.B), Beyond: t.Parts}
}

// finite returns v, nil when JSON cannot hold it.
func finite(v float64) *float64 {
	if v-v != 0 {
		return nil
	}
	return &v
}

// answersShown is how many differing answers a text lists.
const answersShown = 20

// FromDuel shows how two engines differ on a model.
func FromDuel(r *Duel) Document {
	a, b := "a", "b"
	if len(r.Engines) == 2 {
		a, b = r.Engines[0].Engine, r.Engines[1].Engine
	}
	d := Document{Title: fmt.Sprintf("%s on %s and %s", r.Model, a, b), Warnings: r.Warnings}
	verdict := Cell{Text: "the engines agree within the tolerance", Tone: Added}
	switch {
	case r.Parting != nil:
		verdict = Cell{Text: "the engines part at " + r.Parting.node(), Tone: Changed}
	case !r.Agree:
		verdict = Cell{Text: "the outputs are beyond the tolerance, and no tensor within is, computed apart", Tone: Changed}
	}
	facts := []Fact{{"verdict", verdict}}
	if r.Data != nil {
		facts = append(facts,
			Fact{"data", Words(r.Data.Path + " (" + r.Data.Format + ")")},
			Fact{"preprocessing", Words(r.Data.Preprocess)},
			Fact{"samples", Words(r.samples())})
	} else {
		facts = append(facts, Fact{"samples", Words(fmt.Sprintf("%s of random numbers, seed %d", plural(r.count(), "sample"), r.Seed))})
	}
	facts = append(facts, Fact{"tolerance", Words(fmt.Sprintf("%g + %g of the largest magnitude of the sample or tensor", r.ATol, r.RTol))})
	d.Sections = append(d.Sections, Section{Facts: facts}, r.engineSection())
	for i := range r.Outputs {
		d.Sections = append(d.Sections, r.Outputs[i].section(a, b))
	}
	d.Sections = append(d.Sections, r.tensorSection())
	return d
}

func (r *Duel) count() int {
	if len(r.Outputs) == 0 {
		return 0
	}
	return r.Outputs[0].Samples
}

func (r *Duel) samples() string {
	s := fmt.Sprintf("%s, %s", r.Data.Split, plural(r.count(), "sample"))
	if r.Data.SHA256 != "" {
		s += fmt.Sprintf(", seed %d, sha256 %s", r.Seed, shortHash(r.Data.SHA256))
	}
	return s
}

func (t *DuelTensor) node() string {
	s := fmt.Sprintf("node %d", t.Node)
	if t.Name != "" {
		s += fmt.Sprintf(" %q", t.Name)
	}
	return fmt.Sprintf("%s (%s)", s, t.Op)
}

func (r *Duel) engineSection() Section {
	t := &Table{Columns: []Column{
		{Title: "engine", Key: "engine"}, {Title: "version", Key: "version", Shrink: true}, {Title: "provider", Key: "provider"},
		{Title: "top-1", Key: "top1", Right: true, Sparse: true}, {Title: "top-5", Key: "top5", Right: true, Sparse: true},
		{Title: "latency ms", Key: "latency_median_ms", Right: true, Sparse: true}, {Title: "images/s", Key: "images_per_second", Right: true, Sparse: true},
	}}
	for _, e := range r.Engines {
		row := []Cell{Words(e.Engine), Words(e.EngineVersion), Words(e.Provider), none, none, none, none}
		if v := e.Evaluation; v != nil {
			row[3], row[4] = Share(v.Top1), optional(v.Top5, Share, none)
			if v.Latency != nil {
				row[5] = milliseconds(v.Latency.Median)
			}
			if v.Throughput != nil && v.Throughput.Median > 0 {
				rate := 1000 / v.Throughput.Median
				row[6] = Cell{Text: digits(rate, 4), Raw: rate}
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return Section{Title: "Engines", Table: t}
}

func (o *DuelOutput) section(a, b string) Section {
	s := Section{Title: "Output " + o.Name, Facts: []Fact{
		{"values", Words(fmt.Sprintf("%s of %s; %s beyond the tolerance", grouped(o.Values), plural(o.Samples, "sample"), plural(o.Beyond, "sample")))},
		{"largest difference", Words(o.Absolute.text(a, b, false))},
		{"relative", Words(o.Relative.text(a, b, true))},
		{"other answers", Words(plural(len(o.Answers), "sample"))},
	}}
	if len(o.Answers) == 0 {
		return s
	}
	t := &Table{Columns: []Column{
		{Title: "sample", Key: "sample", Right: true}, {Title: "name", Key: "id", Shrink: true, Sparse: true}, {Title: "label", Key: "label", Sparse: true},
		{Title: a, Key: "a"}, {Title: b, Key: "b"},
	}}
	for _, x := range o.Answers[:min(answersShown, len(o.Answers))] {
		t.Rows = append(t.Rows, []Cell{{Text: fmt.Sprint(x.Sample), Raw: x.Sample}, Words(x.ID), Words(x.Label), answer(x.A, x.ALabel), answer(x.B, x.BLabel)})
	}
	if n := len(o.Answers) - len(t.Rows); n > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s more, which JSON lists", grouped(int64(n))))
	}
	s.Table = t
	return s
}

func answer(i int, label string) Cell {
	switch {
	case i < 0:
		return Words("none")
	case label == "":
		return Cell{Text: fmt.Sprint(i), Raw: i}
	}
	return Words(fmt.Sprintf("%s (%d)", label, i))
}

// text says how large a difference is and where. It is called on nil.
func (e *DuelExtreme) text(a, b string, relative bool) string {
	if e == nil {
		return "0"
	}
	where := fmt.Sprintf("sample %d, output %d", e.Sample, e.Value)
	if e.Label != "" {
		where += " (" + e.Label + ")"
	}
	if relative {
		of := " of the sample's largest magnitude,"
		if e.Difference == nil {
			of = ""
		}
		return fmt.Sprintf("%s%s at %s", finiteText(e.Difference), of, where)
	}
	return fmt.Sprintf("%s at %s: %s %s, %s %s", finiteText(e.Difference), where, a, exactText(e.A), b, exactText(e.B))
}

// exactText tells float32 numbers apart.
func exactText(v *float64) string {
	if v == nil {
		return "not finite"
	}
	return fmt.Sprintf("%.9g", *v)
}

func finiteText(v *float64) string {
	if v == nil {
		return "not finite"
	}
	if *v != math.Trunc(*v) || math.Abs(*v) >= 1e6 {
		return fmt.Sprintf("%.4g", *v)
	}
	return fmt.Sprintf("%g", *v)
}

func (r *Duel) tensorSection() Section {
	where := "the sample that differs most"
	if !slices.ContainsFunc(r.Outputs, func(o DuelOutput) bool { return o.Relative != nil }) {
		where = "the first sample"
	}
	if r.Data == nil || r.ID == "" {
		where += fmt.Sprintf(", %d", r.Sample)
	} else {
		where += fmt.Sprintf(", %d (%s)", r.Sample, r.ID)
	}
	s := Section{Title: "Tensors within", Facts: []Fact{{"computed for", Words(where)}}}
	if p := r.Parting; p != nil {
		s.Facts = append(s.Facts, Fact{"first that parts", Cell{Text: fmt.Sprintf("%s: %s of its largest magnitude %s", p.node(), finiteText(p.MaxRel), finiteText(&p.Largest)), Tone: Changed}})
		agreeing := "none on the way from the input"
		if r.Agreeing != nil {
			agreeing = r.Agreeing.node()
		}
		s.Facts = append(s.Facts, Fact{"last that agrees", Words(agreeing)})
	}
	t := &Table{Main: true, Columns: []Column{
		{Title: "node", Key: "node", Right: true}, {Title: "name", Key: "name", Shrink: true}, {Title: "operator", Key: "op"},
		{Title: "tensor", Key: "tensor", Hidden: true}, {Title: "type", Key: "dtype", Drop: 4},
		{Title: "values", Key: "values", Right: true, Drop: 3}, {Title: "largest", Key: "largest", Right: true, Drop: 2},
		{Title: "max diff", Key: "max_abs", Right: true, Drop: 1}, {Title: "relative", Key: "max_rel", Right: true},
		{Title: "at", Key: "at", Hidden: true}, {Title: r.name(0), Key: "a", Hidden: true}, {Title: r.name(1), Key: "b", Hidden: true},
		{Title: "", Key: "beyond", Sparse: true},
	}}
	for _, name := range []string{"a", "b"}[:len(r.Engines)] {
		t.Columns = append(t.Columns, Column{Title: "engine " + name, Key: "engine_" + name, Hidden: true})
	}
	for i := range r.Tensors {
		row := r.Tensors[i].row()
		for _, e := range r.Engines {
			row = append(row, Words(strings.Join([]string{e.Engine, e.EngineVersion, e.Provider}, " ")))
		}
		t.Rows = append(t.Rows, row)
	}
	s.Table = t
	s.Notes = []string{"max diff: the largest |b-a|; relative: as a share of the largest magnitude of the tensor; every tensor listed is an output of a copy of the graph, so that nothing is fused across it"}
	if r.SkippedTensors > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("not compared: %s of types that no engine hands out", plural(r.SkippedTensors, "tensor")))
	}
	return s
}

func (r *Duel) name(i int) string {
	if i < len(r.Engines) {
		return r.Engines[i].Engine
	}
	return ""
}

func (t *DuelTensor) row() []Cell {
	at := make([]string, len(t.At))
	for i, v := range t.At {
		at[i] = fmt.Sprint(v)
	}
	value := func(v *float64) Cell {
		if v == nil {
			return Cell{Text: finiteText(v)}
		}
		return Cell{Text: finiteText(v), Raw: *v}
	}
	mark := Cell{Raw: t.Beyond}
	if t.Beyond {
		mark = Cell{Text: "parts", Raw: true, Tone: Changed}
	}
	name := layerName(t.Op, t.Name)
	return []Cell{{Text: fmt.Sprint(t.Node), Raw: t.Node}, name, Words(t.Op), Words(t.Tensor), Words(t.DType), Count(t.Values), value(&t.Largest),
		value(t.MaxAbs), value(t.MaxRel), Words(strings.Join(at, " ")), value(t.A), value(t.B), mark}
}
