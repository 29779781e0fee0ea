package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"html"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

func floats(name string, dims ...int64) *onnxpb.TensorProto {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return &onnxpb.TensorProto{Name: &name, Dims: dims, DataType: proto.Int32(1), RawData: make([]byte, 4*n)}
}

func operator(op, in, out string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	return &onnxpb.NodeProto{OpType: &op, Name: proto.String(out), Input: strings.Split(in, " "), Output: strings.Split(out, " "), Attribute: attrs}
}

// values declares tensors of a type as "name:3 n", without a colon one of unknown
// shape.
func values(kind int32, spec ...string) (list []*onnxpb.ValueInfoProto) {
	for _, s := range spec {
		name, dims, known := strings.Cut(s, ":")
		tensor := &onnxpb.TypeProto_Tensor{ElemType: &kind}
		if known {
			tensor.Shape = &onnxpb.TensorShapeProto{}
			for d := range strings.FieldsSeq(dims) {
				p := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d}}
				if n, err := strconv.ParseInt(d, 10, 64); err == nil {
					p.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: n}
				}
				tensor.Shape.Dim = append(tensor.Shape.Dim, p)
			}
		}
		list = append(list, &onnxpb.ValueInfoProto{Name: &name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: tensor}}})
	}
	return list
}

func modelProto(g *onnxpb.GraphProto) *onnxpb.ModelProto {
	g.Name = proto.String("g")
	return &onnxpb.ModelProto{IrVersion: proto.Int64(8), OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(17)}}, Graph: g}
}

func bodyOf(in, out []*onnxpb.ValueInfoProto, nodes ...*onnxpb.NodeProto) *onnxpb.GraphProto {
	return &onnxpb.GraphProto{Name: proto.String("b"), Input: in, Output: out, Node: nodes}
}

func graphAttr(name string, g *onnxpb.GraphProto) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_GRAPH.Enum(), G: g}
}

// unevenModels have layers that share a weight, of unknown size, in the body of a
// loop and in the branches of an If.
func unevenModels() map[string]*onnxpb.ModelProto {
	five := &onnxpb.TensorProto{Name: proto.String("five"), DataType: proto.Int32(7), Int64Data: []int64{5}}
	body := bodyOf(append(append(values(7, "i:"), values(9, "c:")...), values(1, "v")...), append(values(9, "more"), values(1, "r")...),
		operator("Identity", "c", "more"), operator("MatMul", "v w", "r"))
	branch := func(w string) *onnxpb.GraphProto {
		return bodyOf(nil, values(1, "o"), operator("MatMul", "x "+w, "o"))
	}
	return map[string]*onnxpb.ModelProto{
		"shared": modelProto(&onnxpb.GraphProto{Input: values(1, "x:1 4"), Output: values(1, "a", "b", "c"), Initializer: []*onnxpb.TensorProto{floats("w", 4, 5)},
			Node: []*onnxpb.NodeProto{operator("MatMul", "x w", "a"), operator("MatMul", "x w", "b"), operator("Gemm", "x w", "c")}}),
		"unknown": modelProto(&onnxpb.GraphProto{Input: values(1, "x:n 3 h w", "q:1 4"), Output: values(1, "y", "z"), Initializer: []*onnxpb.TensorProto{floats("k", 8, 3, 3, 3), floats("f", 4, 5)},
			Node: []*onnxpb.NodeProto{operator("Conv", "x k", "y"), operator("Gemm", "q f", "z")}}),
		"loop": modelProto(&onnxpb.GraphProto{Input: values(1, "x:2 4"), Output: values(1, "y"), Initializer: []*onnxpb.TensorProto{floats("w", 4, 4), five},
			Node: []*onnxpb.NodeProto{operator("MatMul", "x w", "a"), operator("Loop", "five  a", "y", graphAttr("body", body))}}),
		"computed": modelProto(&onnxpb.GraphProto{Input: values(1, "x:4 2", "q:1 4"), Output: values(1, "y", "z"), Initializer: []*onnxpb.TensorProto{floats("w", 100, 100), floats("f", 4, 5)},
			Node: []*onnxpb.NodeProto{operator("NonZero", "w", "n"), operator("Cast", "n", "k", &onnxpb.AttributeProto{Name: proto.String("to"), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(1)}),
				operator("MatMul", "x k", "y"), operator("Gemm", "q f", "z")}}),
		"if": modelProto(&onnxpb.GraphProto{Input: append(values(1, "x:2 4"), values(9, "q:")...), Output: values(1, "y"), Initializer: []*onnxpb.TensorProto{floats("w", 4, 4), floats("v", 4, 4)},
			Node: []*onnxpb.NodeProto{operator("If", "q", "y", graphAttr("then_branch", branch("w")), graphAttr("else_branch", branch("v")))}}),
	}
}

// The numbers of a model are the same in a text, as CSV, as JSON and on a page,
// and none is a lower bound without saying so.
func TestFormatsAgree(t *testing.T) {
	t.Parallel()
	models := map[string]Model{}
	for name, p := range unevenModels() {
		models[name] = pageModel(t, p, name+".onnx")
	}
	paths, err := filepath.Glob("../../fixtures/*.onnx")
	if err != nil || len(paths) < 3 {
		t.Fatalf("fixtures %q, %v", paths, err)
	}
	for _, path := range paths {
		m, err := openModel(t, path, inspect.Options{})
		if err != nil {
			t.Fatal(err)
		}
		models[filepath.Base(path)] = NewModel(m, Selection{}, nil)
	}
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			var asJSON struct {
				Layers []map[string]any
				Totals map[string]any
			}
			d := json.NewDecoder(bytes.NewReader(encoded(t, m)))
			d.UseNumber()
			if err := d.Decode(&asJSON); err != nil {
				t.Fatal(err)
			}
			layers := FromModel(m, LayerTable)
			asText := text(t, TextOptions{}, layers)
			page := html.UnescapeString(pageOf(t, m))
			_, rows := records(t, layers)
			if len(rows) != len(asJSON.Layers) {
				t.Fatalf("%d rows, %d layers in JSON", len(rows), len(asJSON.Layers))
			}
			for i, row := range rows {
				l := m.Layers[i]
				for _, key := range []string{"parameters", "macs", "weight_bytes", "out_bytes"} {
					if got, want := row[key], jsonText(asJSON.Layers[i][key]); got != want {
						t.Errorf("%s: %s is %q as CSV, %q as JSON", l.Name, key, got, want)
					}
				}
				unknown := parametersUnknown(m.Model, &l)
				if row["parameters_unknown"] != strconv.Itoa(unknown) {
					t.Errorf("%s: parameters_unknown is %q, want %d", l.Name, row["parameters_unknown"], unknown)
				}
				short := []string{atLeast(Count(l.Parameters), unknown).Text, optional(l.MACs, Scaled, absent).Text, Bytes(l.WeightBytes).Text, optional(l.OutBytes, Bytes, absent).Text}
				if !slicesIn(lineOf(asText, l.Name, l.Scope), short) {
					t.Errorf("%s: %q lacks one of %q", l.Name, lineOf(asText, l.Name, l.Scope), short)
				}
				cells := pageRow(t, page, l.Index)
				if short[0] = Scaled(l.Parameters).Text; unknown > 0 {
					short[0] = "≥ " + short[0]
				}
				for k, want := range short {
					if got, _, _ := strings.Cut(cells[k], " ×"); got != want {
						t.Errorf("%s: %q on the page, %q in the text", l.Name, cells[k], want)
					}
				}
			}
			// The totals, and those of what all layers are summed up to.
			_, list := records(t, FromSummaries([]Summary{Summarize(m.Model, nil)}, false))
			for _, key := range []string{"parameters", "parameters_unknown", "macs", "macs_unknown", "peak_activation_bytes", "activations_unknown"} {
				got, want := list[0][key], jsonText(asJSON.Totals[key])
				if key == "parameters_unknown" && want == "" {
					want = "0" // left out
				}
				if got != want {
					t.Errorf("%s is %q as CSV, %q as JSON", key, got, want)
				}
			}
			x := m.Totals
			for what, unknown := range map[string]int{"parameters": x.ParametersUnknown, "MACs": x.MACsUnknown, "activation memory": x.ActivationsUnknown} {
				if got := strings.Contains(lineOf(asText, what, ""), "unknown"); got != (unknown > 0) {
					t.Errorf("%d unknown, the text says %q", unknown, lineOf(asText, what, ""))
				}
			}
			if x.MACs != nil && !strings.Contains(asText, "("+grouped(*x.MACs)+")") {
				t.Errorf("the text lacks %d MACs", *x.MACs)
			}
			sum := NewModel(m.Model, Selection{Filter: regexp.MustCompile("")}, nil).Selection.Matched
			if sum.Parameters != x.Parameters || x.Statistics == 0 && sum.WeightBytes != x.WeightBytes || !equal(sum.MACs, x.MACs) || sum.MACsUnknown != x.MACsUnknown {
				t.Errorf("all layers: %+v, the totals %+v", sum, x)
			}
		})
	}
}

// Shares on a page are of the model's total.
func TestHTMLShares(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"shared":   {"most in a: 20, 100.0 %", `title="20, 100.0 %"`},
		"unknown":  {"most known in z: 20, 100.0 % of what is known; unknown for 1 node", "unknown for 1 node", "≥ 20", `title="20, 100.0 % of what is known"`, `title="216, 91.5 %"`},
		"loop":     {"most in r: 160, 83.3 %", "32 × 5", `title="32 in one run, runs: 5, 83.3 %"`, `title="32, 16.7 %"`},
		"computed": {"≥ 20", "most known in z: 20, 100.0 % of what is known; unknown for 1 computed weight", "≥ 0", `title="at least 0"`},
		"if":       {"most in o: 32 at most", "32 × 0 or 1", `title="32 in one run, runs: 0 or 1"`, `title="16, 50.0 %"`},
	} {
		page := html.UnescapeString(pageOf(t, pageModel(t, unevenModels()[name], name+".onnx")))
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s: the page lacks %q", name, w)
			}
		}
	}
}

// Sums over layers and modules count what is shared once and loops as often as
// they run.
func TestSumsOfSelections(t *testing.T) {
	t.Parallel()
	models := unevenModels()
	for _, c := range []struct {
		model, filter string
		depth         int
		want          string
	}{
		{"shared", "MatMul", 0, "2 of 3 layers with 20 parameters (80 B) and 40 MACs"},
		{"shared", "^c$", 0, "1 of 3 layers with 20 parameters (80 B) and 20 MACs"},
		{"loop", "body", 0, "1 of 2 layers with 16 parameters (64 B) and 160 MACs"},
		{"if", "MatMul", 0, "2 of 2 layers with 32 parameters (128 B) and 32 MACs"},
		{"unknown", ".", 0, "2 of 2 layers with 236 parameters (944 B) and >= 20 MACs"},
		{"computed", "y", 0, "1 of 2 layers with >= 0 parameters (40.00 kB) and unknown MACs"},
		{"computed", "", 1, "(none) 2 >= 20 >= 20 40.08 kB >= 20 B"},
		{"unknown", "Conv", 0, "1 of 2 layers with 216 parameters (864 B) and unknown MACs"},
		{"loop", "", 1, "y 1 16 160 64 B 32 B"},
		{"if", "", 1, "y 2 32 32 128 B 64 B"},
	} {
		sel := Selection{Depth: c.depth}
		if c.filter != "" {
			sel.Filter = regexp.MustCompile(c.filter)
		}
		m := pageModel(t, models[c.model], c.model+".onnx")
		got := text(t, TextOptions{}, FromModel(NewModel(m.Model, sel, nil), LayerTable))
		if !strings.Contains(strings.Join(strings.Fields(got), " "), c.want) {
			t.Errorf("%s, filter %q, depth %d: no %q in\n%s", c.model, c.filter, c.depth, c.want, got)
		}
	}
	// What may be the largest is not cut off.
	m := NewModel(pageModel(t, models["unknown"], "u.onnx").Model, Selection{Sort: ByMACs, Top: 1}, nil)
	if got := text(t, TextOptions{}, FromModel(m, LayerTable)); m.Layers[0].Name != "y" || !strings.Contains(got, "those with the most MACs, unknown ones before them") || !strings.Contains(got, "what is not wholly known (1) comes first") {
		t.Errorf("sorted by MACs:\n%s", got)
	}
}

func TestCSVIsPrintable(t *testing.T) {
	t.Parallel()
	hostile := "na,me\"\n\x1b[31mred\x00"
	d := Document{Title: hostile, Sections: []Section{{Table: &Table{Main: true, Columns: []Column{{Key: "name"}}, Rows: [][]Cell{{Words(hostile)}}}}}}
	var b strings.Builder
	if err := WriteCSV(&b, d, d); err != nil {
		t.Fatal(err)
	}
	const quoted = `"na,me"" ?[31mred?"`
	if want := "file,name\n" + quoted + "," + quoted + "\n" + quoted + "," + quoted + "\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestShapeIsUnambiguous(t *testing.T) {
	t.Parallel()
	s := inspect.Shape{Known: true, Dims: []inspect.Dim{{Value: -1, Name: "n"}, {Value: 12}, {Value: -1, Name: "floor((h + 1)/2) - 4"}, {Value: -1, Name: "2*w"}}}
	if got := shape(s, &s.Dims[0]).Text; got != "12x(floor((h + 1)/2) - 4)x2*w" {
		t.Error(got)
	}
	if got := shape(inspect.Shape{Known: true, Dims: s.Dims[2:3]}, nil).Text; got != "floor((h + 1)/2) - 4" {
		t.Error(got)
	}
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// records returns the rows of a document as CSV, by column.
func records(t *testing.T, d Document) (head []string, rows []map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := WriteCSV(&b, d); err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all[1:] {
		row := map[string]string{}
		for i, v := range r {
			row[all[0][i]] = v
		}
		rows = append(rows, row)
	}
	return all[0], rows
}

func jsonText(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return ""
}

// lineOf returns the line of a text that begins with a name and ends with a scope.
func lineOf(s, name, scope string) string {
	for l := range strings.Lines(s) {
		if l = strings.TrimRight(l, "\n"); strings.HasPrefix(l, "  "+name+"  ") && strings.HasSuffix(l, scope) {
			return l
		}
	}
	return ""
}

func slicesIn(line string, words []string) bool {
	for _, w := range words {
		i := strings.Index(line, "  "+w)
		if i < 0 {
			return false
		}
		line = line[i+len(w):]
	}
	return true
}

// pageRow returns the last cells of a layer on a page: parameters, MACs, weights
// and output.
func pageRow(t *testing.T, page string, x int) []string {
	t.Helper()
	row := regexp.MustCompile(`(?s)<tr[^>]* data-x="` + strconv.Itoa(x) + `">(.*?)</tr>`).FindStringSubmatch(page)
	if row == nil {
		t.Fatalf("the page has no row %d", x)
	}
	var cells []string
	for _, c := range regexp.MustCompile(`(?s)<td[^>]*>(.*?)</td>`).FindAllStringSubmatch(row[1], -1) {
		cells = append(cells, regexp.MustCompile(`<[^>]*>`).ReplaceAllString(c[1], ""))
	}
	return cells[len(cells)-4:]
}

func equal(a, b *int64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
