package gorgonia_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/rogpeppe/go-internal/diff"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

var update = flag.Bool("update", false, "write the expected tables below testdata and the README's table of operators")

// operatorTable is what TestOperatorsCorpus is expected to find.
const operatorTable = "testdata/operators.txt"

// TestOperatorsCorpus runs the backend tests of ONNX that come with inputs and
// expected outputs, below the folder FILTERLENS_CORPUS. An engine passes a test
// or refuses it, naming the node; a wrong result, a panic and any other error
// fail. What passes must be as in testdata/operators.txt; -update writes it.
func TestOperatorsCorpus(t *testing.T) {
	root := corpusRoot(t)
	e := gorgonia.Open(gorgonia.Options{})
	defer e.Close()
	var cases []*backendTest
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "model.onnx" {
			return err
		}
		sets, err := filepath.Glob(filepath.Join(filepath.Dir(path), "test_data_set_*"))
		if err != nil || len(sets) == 0 {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		c := &backendTest{t: t, engine: e, name: strings.Replace(filepath.ToSlash(rel), "/onnx/backend/test/data", "", 1)}
		if c.run(path, sets) {
			cases = append(cases, c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no test was found")
	}
	nameFunctions(cases)

	var worst *backendTest
	count := make(map[outcome]int)
	for _, c := range cases {
		count[c.outcome]++
		if worst == nil || c.worst > worst.worst {
			worst = c
		}
		if c.outcome == failed {
			t.Errorf("%s (%s): %v", c.name, c.subject, c.err)
		}
	}
	t.Logf("%d tests: %d passed, %d passed with parameters stored in the file, %d refused, %d failed; the largest difference is %.2g of the largest number, in %s",
		len(cases), count[passed], count[passedStored], count[refused], count[failed], worst.worst, worst.name)

	got := operatorReport(cases)
	if *update {
		if err := os.WriteFile(operatorTable, got, 0o644); err != nil {
			t.Fatal(err)
		}
		writeReadme(t, got)
		return
	}
	want, err := os.ReadFile(operatorTable)
	if err != nil {
		t.Fatal(err)
	}
	before := make(map[string]string)
	for line := range strings.Lines(string(want)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == string(passed) || f[0] == string(passedStored)) {
			before[f[1]] = f[0]
		}
	}
	for _, c := range cases {
		if was := before[c.name]; was != "" && c.outcome == refused {
			t.Errorf("%s: %s before, now refused: %s", c.name, was, c.reason())
		}
	}
	if d := diff.Diff(operatorTable, want, "this run", got); d != nil {
		t.Fatalf("the tests of the corpus end differently; if that is right, run with -update:\n%s", d)
	}
}

// An outcome is what became of a backend test.
type outcome string

const (
	passed outcome = "passed"
	// passedStored: refused as it stands, because it feeds what models have in the
	// file (axes, sizes, pads); passed with all inputs but the first stored there.
	passedStored outcome = "stored"
	refused      outcome = "refused"
	failed       outcome = "failed"
)

// A backendTest is one folder with a model and sets of inputs and outputs.
type backendTest struct {
	t      *testing.T
	engine engine.Engine
	name   string
	// operator is that of the only node, "" for graphs of several; subject is what
	// the test is about.
	operator, subject string
	expanded          bool
	opset             int64
	types             []string // of the first input and the first output
	nodes             []string // operators
	outcome           outcome
	unsupported       *gorgonia.UnsupportedError
	err               error
	worst             float64
}

// run does all sets of a test; false when it has no expected outputs.
func (c *backendTest) run(path string, sets []string) bool {
	f, err := onnxfile.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	g := f.Model.GetGraph()
	for _, n := range g.GetNode() {
		c.nodes = append(c.nodes, operatorOf(n))
	}
	if len(c.nodes) == 1 {
		c.operator = c.nodes[0]
	}
	for _, o := range f.Model.GetOpsetImport() {
		if o.GetDomain() == "" || o.GetDomain() == "ai.onnx" {
			c.opset = o.GetVersion()
		}
	}
	for _, list := range [][]*onnxpb.ValueInfoProto{g.GetInput(), g.GetOutput()} {
		if len(list) > 0 {
			name := "no tensor"
			if v := list[0].GetType().GetTensorType(); v != nil {
				name = onnxfile.DType(v.GetElemType()).String()
			}
			if !slices.Contains(c.types, name) {
				c.types = append(c.types, name)
			}
		}
	}
	model, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, set := range sets {
		d, ok := readSet(f, set)
		if !ok {
			return false
		}
		c.join(c.try(g, model, d.in, d.out))
		if len(d.in) < 1 || !d.whole {
			continue
		}
		// Parameters stored in the file are constants when the graph is planned, and
		// a graph that has all its inputs stored is nothing but planning.
		for _, from := range []int{1, 0} {
			if from < len(d.names) {
				stored, err := withStored(f, d, from)
				if err != nil {
					c.t.Fatalf("%s: %v", c.name, err)
				}
				in := maps.Clone(d.in)
				for _, name := range d.names[from:] {
					delete(in, name)
				}
				if from == 0 {
					in[idle] = engine.NewFloat32([]float32{1}, 1)
				}
				c.joinStored(from, c.try(g, stored, in, d.out))
			}
		}
	}
	return true
}

// A trial is how one form of a test ended.
type trial struct {
	unsupported *gorgonia.UnsupportedError
	err         error // a failure
	worst       float64
}

// join adds a set's trial; all sets have to pass.
func (c *backendTest) join(r trial) {
	c.worst = max(c.worst, r.worst)
	switch {
	case r.err != nil:
		c.outcome, c.err = failed, r.err
	case r.unsupported != nil && c.outcome != failed:
		c.outcome, c.unsupported = refused, r.unsupported
	case c.outcome == "":
		c.outcome = passed
	}
}

// joinStored adds the trial of the same set with inputs stored in the file, from
// the numbered one on: what passes as it stands must pass so, too.
func (c *backendTest) joinStored(from int, r trial) {
	switch {
	case r.err != nil:
		c.outcome, c.err = failed, fmt.Errorf("with the inputs stored from number %d on: %w", from, r.err)
	case from == 0:
	case r.unsupported == nil && c.outcome == refused:
		c.outcome = passedStored
		c.worst = max(c.worst, r.worst)
	case r.unsupported != nil && c.outcome == passed:
		c.outcome, c.err = failed, fmt.Errorf("with parameters stored in the file it is refused: %w", r.unsupported)
	}
}

// A dataSet is what a test feeds and expects.
type dataSet struct {
	names []string // of the inputs, in order
	proto map[string]*onnxpb.TensorProto
	in    map[string]*engine.Tensor
	out   map[string]*expected
	// whole tells that all inputs could be read.
	whole bool
}

type expected struct {
	*engine.Tensor
	dtype onnxfile.DType
}

// readSet reads a folder of inputs and outputs; what is no tensor of numbers is
// left out, for an engine to refuse. Not ok without any output.
func readSet(f *onnxfile.File, dir string) (d dataSet, ok bool) {
	g := f.Model.GetGraph()
	d = dataSet{proto: map[string]*onnxpb.TensorProto{}, in: map[string]*engine.Tensor{}, out: map[string]*expected{}, whole: true}
	for i, v := range fed(g) {
		d.names = append(d.names, v.GetName())
		p, err := readTensorProto(filepath.Join(dir, fmt.Sprintf("input_%d.pb", i)))
		if err == nil && v.GetType().GetTensorType() != nil {
			var x *engine.Tensor
			if x, err = tensorOf(p); err == nil {
				d.proto[v.GetName()], d.in[v.GetName()] = p, x
				continue
			}
		}
		d.whole = false
	}
	for i, v := range g.GetOutput() {
		p, err := readTensorProto(filepath.Join(dir, fmt.Sprintf("output_%d.pb", i)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		ok = true
		if err == nil && v.GetType().GetTensorType() != nil {
			if x, err := tensorOf(p); err == nil {
				d.out[v.GetName()] = &expected{x, onnxfile.DType(p.GetDataType())}
			}
		}
	}
	return d, ok
}

// idle is an input that no node reads, for models that need no other.
const idle = "conformance/idle"

// withStored returns the model with the inputs from a number on stored in it.
func withStored(f *onnxfile.File, d dataSet, from int) ([]byte, error) {
	draft := f.Draft()
	g := draft.Model.Graph
	for _, name := range d.names[from:] {
		p := proto.Clone(d.proto[name]).(*onnxpb.TensorProto)
		p.Name = proto.String(name)
		g.Initializer = append(g.Initializer, p)
	}
	g.Input = slices.DeleteFunc(g.Input, func(v *onnxpb.ValueInfoProto) bool { return slices.Contains(d.names[from:], v.GetName()) })
	if len(g.Input) == 0 {
		one := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 1}}
		g.Input = []*onnxpb.ValueInfoProto{{Name: proto.String(idle), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{
			ElemType: proto.Int32(int32(onnxfile.Float)), Shape: &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{one}},
		}}}}}
	}
	draft.Model.IrVersion = proto.Int64(max(4, draft.Model.GetIrVersion())) // initializers need not be inputs
	return draft.Bytes()
}

// try runs one form of a test.
func (c *backendTest) try(g *onnxpb.GraphProto, model []byte, in map[string]*engine.Tensor, want map[string]*expected) (r trial) {
	var out map[string]*engine.Tensor
	var loaded bool
	err := guarded(c.name, func() (err error) {
		out, loaded, err = compute(c.t.Context(), c.engine, engine.Model{Name: "test", Bytes: model}, in)
		return err
	})
	if u, wrong := refusal(err, g); u != nil || wrong != nil {
		if wrong == nil && loaded && settled(g) {
			wrong = fmt.Errorf("refused only after it was loaded: %w", u)
		}
		return trial{unsupported: u, err: wrong}
	}
	if err != nil {
		return trial{err: err}
	}
	for name, y := range out {
		if want[name] == nil {
			return trial{err: fmt.Errorf("output %q is no tensor of numbers, and was made", name)}
		}
		worst, err := agree(y, want[name].Tensor, want[name].dtype)
		if err != nil {
			return trial{err: fmt.Errorf("output %q: %w", name, err)}
		}
		r.worst = max(r.worst, worst)
	}
	return r
}

// settled tells whether the graph says every dimension of its inputs but the
// first, so that refusals need no run.
func settled(g *onnxpb.GraphProto) bool {
	for _, v := range fed(g) {
		shape := v.GetType().GetTensorType().GetShape()
		if shape == nil {
			return false
		}
		for i, d := range shape.Dim {
			if _, ok := d.GetValue().(*onnxpb.TensorShapeProto_Dimension_DimValue); !ok && i > 0 {
				return false
			}
		}
	}
	return true
}

// reason says why a test is refused: the first node's reason stands for all.
func (c *backendTest) reason() string {
	if c.outcome != refused {
		return ""
	}
	if len(c.unsupported.Nodes) == 0 {
		return c.subject + ": " + c.unsupported.Reason
	}
	n := c.unsupported.Nodes[0]
	return n.Op + ": " + n.Reason
}

// functionBody is the end of the name of a test whose graph is what an
// operator's definition as a function says.
var functionBody = regexp.MustCompile(`_expanded(_ver\d+)?$`)

// nameFunctions finds what tests of several nodes are about: the operator whose
// function they are, which the test of the same name without the ending has.
func nameFunctions(cases []*backendTest) {
	operators := make(map[string]string)
	for _, c := range cases {
		operators[c.name] = c.operator
	}
	for _, c := range cases {
		c.expanded = functionBody.MatchString(c.name)
		c.subject = c.operator
		if c.expanded {
			c.subject = cmp.Or(operators[functionBody.ReplaceAllString(c.name, "")], "unknown")
		}
	}
}

// score counts the tests of one subject.
type score struct {
	tests, passed, stored, refused, failed int
	opsets                                 [2]int64
	types                                  []string
	reasons                                map[string]int
}

func (s *score) add(c *backendTest) {
	s.tests++
	switch c.outcome {
	case passed:
		s.passed++
	case passedStored:
		s.stored++
	case refused:
		s.refused++
		if s.reasons == nil {
			s.reasons = make(map[string]int)
		}
		s.reasons[c.reason()]++
	case failed:
		s.failed++
	}
	if c.outcome == passed || c.outcome == passedStored {
		if s.opsets[0] == 0 {
			s.opsets[0] = c.opset
		}
		s.opsets = [2]int64{min(s.opsets[0], c.opset), max(s.opsets[1], c.opset)}
		for _, d := range c.types {
			if !slices.Contains(s.types, d) {
				s.types = append(s.types, d)
			}
		}
	}
}

// operatorReport writes the golden file.
func operatorReport(cases []*backendTest) []byte {
	own, functions := map[string]*score{}, map[string]*score{}
	all, graphs := new(score), new(score)
	put := func(m map[string]*score, c *backendTest) {
		if m[c.subject] == nil {
			m[c.subject] = new(score)
		}
		m[c.subject].add(c)
	}
	inside := make(map[string]int) // operators of graphs of several nodes that pass
	for _, c := range cases {
		all.add(c)
		switch {
		case c.expanded:
			put(functions, c)
		case c.operator != "":
			put(own, c)
		default:
			graphs.add(c)
		}
		if len(c.nodes) > 1 && (c.outcome == passed || c.outcome == passedStored) {
			for _, op := range slices.Compact(slices.Sorted(slices.Values(c.nodes))) {
				inside[op]++
			}
		}
	}
	var b bytes.Buffer
	b.WriteString(`What the pure-Go engine computes of the backend tests of ONNX that come with inputs and outputs. Written by
FILTERLENS_CORPUS=DIR go test ./inspect/engine/gorgonia -run '^TestOperatorsCorpus$' -update

passed: as the test stands. stored: when its inputs but the first are stored in the file, as models have them (axes,
sizes, pads). refused: with an error that names the node. None may fail. opsets: of the tests that pass. types: of
their first inputs and first outputs. graphs: tests of several nodes that hold the operator and pass.

`)
	table := func(title string, m map[string]*score, which func(*score) bool) {
		fmt.Fprintf(&b, "%s\n\n", title)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "operator\ttests\tpassed\tstored\trefused\tgraphs\topsets\ttypes")
		for _, op := range slices.Sorted(maps.Keys(m)) {
			s := m[op]
			if !which(s) {
				continue
			}
			slices.Sort(s.types)
			opsets := "-"
			if s.opsets[1] > 0 {
				opsets = fmt.Sprintf("%d-%d", s.opsets[0], s.opsets[1])
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", op, s.tests, s.passed, s.stored, s.refused, inside[op], opsets, cmp.Or(strings.Join(s.types, ","), "-"))
		}
		w.Flush()
		b.WriteString("\n")
	}
	claims := func(s *score) bool { return s.passed+s.stored > 0 }
	table(operatorsTitle, own, claims)
	fmt.Fprintf(&b, "%s\n\n", reasonsTitle)
	for _, op := range slices.Sorted(maps.Keys(own)) {
		if !claims(own[op]) {
			continue
		}
		for _, r := range byCount(own[op].reasons) {
			fmt.Fprintf(&b, "%d  %s\n", own[op].reasons[r], r)
		}
	}
	b.WriteString("\n")
	table("Operators none of whose own tests pass", own, func(s *score) bool { return !claims(s) })
	table("Functions written out: tests whose graph is what the operator's definition says", functions, func(*score) bool { return true })
	fmt.Fprintf(&b, "Other graphs of several nodes: %d tests, %d passed, %d stored, %d refused\n\n", graphs.tests, graphs.passed, graphs.stored, graphs.refused)

	var only []string
	for op := range inside {
		if own[op] == nil || !claims(own[op]) {
			only = append(only, op)
		}
	}
	slices.Sort(only)
	fmt.Fprintf(&b, "Operators that pass only inside graphs: %s\n\n", cmp.Or(strings.Join(only, " "), "none"))
	fmt.Fprintf(&b, "All: %d tests, %d passed, %d stored, %d refused, %d failed\n\n", all.tests, all.passed, all.stored, all.refused, all.failed)

	slices.SortFunc(cases, func(x, y *backendTest) int { return strings.Compare(x.name, y.name) })
	for _, c := range cases {
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("%-8s%s  %s", c.outcome, c.name, c.reason())))
	}
	return b.Bytes()
}

const (
	operatorsTitle = "Operators with tests of their own"
	reasonsTitle   = "Why tests of these are refused"
)

// byCount returns the keys, the most frequent first.
func byCount(m map[string]int) []string {
	return slices.SortedFunc(maps.Keys(m), func(x, y string) int { return cmp.Or(m[y]-m[x], strings.Compare(x, y)) })
}

// The README's part between these lines is written from the golden file.
const (
	readme      = "../../../README.md"
	markerBegin = "<!-- operators of the pure-Go engine: written by go test ./inspect/engine/gorgonia -update -->"
	markerEnd   = "<!-- end of the operators -->"
)

// TestReadmeOperators holds the README's table against the golden file, with or
// without the corpus.
func TestReadmeOperators(t *testing.T) {
	table, err := os.ReadFile(operatorTable)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		writeReadme(t, table)
	}
	text, begin, end := readmePart(t)
	if got, want := text[begin:end], readmeTable(table); got != want {
		t.Errorf("%s does not say what %s says; run with -update:\n%s", readme, operatorTable, diff.Diff(readme, []byte(got), operatorTable, []byte(want)))
	}
}

func readmePart(t *testing.T) (text string, begin, end int) {
	t.Helper()
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text = string(b)
	begin, end = strings.Index(text, markerBegin), strings.Index(text, markerEnd)
	if begin < 0 || end < begin {
		t.Fatalf("%s lacks the lines %q and %q", readme, markerBegin, markerEnd)
	}
	return text, begin + len(markerBegin), end
}

func writeReadme(t *testing.T, table []byte) {
	t.Helper()
	text, begin, end := readmePart(t)
	if err := os.WriteFile(readme, []byte(text[:begin]+readmeTable(table)+text[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// typeLacking is a reason that is nothing but an element type.
var typeLacking = regexp.MustCompile(`^(?:(?:in|out)put \d+ has )?type (\w+),? (?:which )?is lacking$`)

// readmeTable turns the golden file's table of operators into Markdown: the
// operators all of whose tests pass in one row, those of which forms are refused
// in a row each.
func readmeTable(golden []byte) string {
	_, rest, _ := strings.Cut(string(golden), operatorsTitle+"\n\n")
	rows, rest, _ := strings.Cut(rest, "\n\n")
	_, rest, _ = strings.Cut(rest, reasonsTitle+"\n\n")
	reasonLines, rest, _ := strings.Cut(rest, "\n\n")
	reasons, types := make(map[string][]string), make(map[string]map[string]int)
	for line := range strings.Lines(reasonLines) {
		n, text, _ := strings.Cut(strings.TrimSpace(line), "  ")
		op, why, ok := strings.Cut(text, ": ")
		if !ok {
			continue
		}
		if m := typeLacking.FindStringSubmatch(why); m != nil {
			if types[op] == nil {
				types[op] = make(map[string]int)
			}
			times, _ := strconv.Atoi(n)
			types[op][m[1]] += times
			continue
		}
		reasons[op] = append(reasons[op], fmt.Sprintf("%s (%s)", strings.ReplaceAll(why, "|", `\|`), n))
	}
	for op, count := range types {
		times := 0
		for _, n := range count {
			times += n
		}
		reasons[op] = append(reasons[op], fmt.Sprintf("types %s (%d)", strings.Join(slices.Sorted(maps.Keys(count)), ", "), times))
	}
	var whole []string
	var partly strings.Builder
	sum, operators := 0, 0
	for i, line := range strings.Split(rows, "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) < 8 {
			continue
		}
		var tests, pass, stored, refused int
		fmt.Sscan(strings.Join(f[1:5], " "), &tests, &pass, &stored, &refused)
		operators++
		sum += pass + stored
		if pass+stored == tests {
			whole = append(whole, fmt.Sprintf("%s %d", f[0], tests))
			continue
		}
		fmt.Fprintf(&partly, "| %s | %d of %d | %s |\n", f[0], pass+stored, tests, strings.Join(reasons[f[0]], "; "))
	}
	var total string
	if _, after, ok := strings.Cut(rest, "\nAll: "); ok {
		total, _, _ = strings.Cut(after, "\n")
	}
	return fmt.Sprintf("\n| operator | tests passed | refused |\n|---|---|---|\n| %s | all | |\n%s\n%d operators, %d of their own tests. With functions written out and larger graphs: %s.\n",
		strings.Join(whole, ", "), partly.String(), operators, sum, total)
}
