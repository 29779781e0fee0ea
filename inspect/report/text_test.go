package report

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func sample() Document {
	return Document{
		Title:    "model.onnx",
		Warnings: []string{"the accuracy is at chance level"},
		Sections: []Section{{
			Title: "Layers",
			Table: &Table{Main: true, Columns: []Column{
				{Title: "name", Key: "name", Shrink: true},
				{Title: "kernel", Key: "kernel", Drop: 2},
				{Title: "parameters", Key: "parameters", Right: true},
				{Title: "zeros", Key: "zeros", Right: true, Drop: 1},
			}, Rows: [][]Cell{
				{layerName("Conv", "/features/features.10/Conv"), Words("3x3"), Count(1234567), Share(0.25)},
				{layerName("Conv", "/features/features.20/Conv"), Words("3x3"), Count(64), unread},
			}},
			Notes: []string{"zeros: share of a weight's elements that are exactly zero"},
		}},
	}
}

func text(t *testing.T, opt TextOptions, docs ...Document) string {
	t.Helper()
	var b strings.Builder
	if err := WriteText(&b, opt, docs...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextAligns(t *testing.T) {
	got := text(t, TextOptions{}, sample())
	want := `model.onnx
warning: the accuracy is at chance level

Layers
  name                        kernel  parameters    zeros
  /features/features.10/Conv  3x3      1,234,567  25.00 %
  /features/features.20/Conv  3x3             64        -

  zeros: share of a weight's elements that are exactly zero
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A table never is wider than a terminal on which its columns can be made to
// fit, names stay distinct, and what is left out is said.
func TestTextFitsTheTerminal(t *testing.T) {
	for width := 36; width <= 80; width++ {
		got := text(t, TextOptions{Width: width}, sample())
		for _, l := range strings.Split(got, "\n") {
			if n := utf8.RuneCountInString(l); n > width {
				t.Errorf("width %d: a line of %d: %q", width, n, l)
			}
		}
		var names []string
		for _, l := range strings.Split(got, "\n") {
			if strings.HasPrefix(l, "  /") || strings.HasPrefix(l, "  f") {
				names = append(names, strings.Fields(l)[0])
			}
		}
		if len(names) != 2 || names[0] == names[1] {
			t.Errorf("width %d: names %q", width, names)
		}
		flat := strings.Join(strings.Fields(got), " ")
		for _, title := range []string{"kernel", "zeros"} {
			head := strings.Contains(flat[:strings.Index(flat, "feat")], title)
			_, said, _ := strings.Cut(flat, "too): ")
			if head == strings.Contains(said, title) {
				t.Errorf("width %d: column %s is shown and said to be missing, or neither:\n%s", width, title, got)
			}
		}
	}
}

func TestTextShortensInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 12, "short"},
		{"/features/features.10/Conv", 12, "/fea…10/Conv"},
		{"äöüäöüäöüäöüäöü", 9, "äöü…öüäöü"},
	} {
		if got := shorten(c.in, c.n); got != c.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestTextColours(t *testing.T) {
	d := sample()
	if got := text(t, TextOptions{Width: 80}, d); strings.Contains(got, "\x1b") {
		t.Errorf("escape sequences without colour: %q", got)
	}
	if got := text(t, TextOptions{Width: 80, Color: true}, d); !strings.Contains(got, "\x1b[1mmodel.onnx\x1b[0m") {
		t.Errorf("no colours: %q", got)
	}
}

// Names come from files: they must not reach the terminal as commands.
func TestTextIsPrintable(t *testing.T) {
	evil := "a\x1b[2Jb\nc\x00\x9bd\xff"
	d := Document{Title: evil, Warnings: []string{evil}, Sections: []Section{{
		Title: evil, Facts: []Fact{{evil, Words(evil)}}, Notes: []string{evil},
		Table: &Table{Columns: []Column{{Title: "x"}}, Rows: [][]Cell{{Words(evil)}}},
	}}}
	got := text(t, TextOptions{}, d)
	if strings.ContainsAny(got, "\x1b\x00\u009b") || !utf8.ValidString(got) {
		t.Errorf("not printable: %q", got)
	}
	if n := strings.Count(got, "\n"); n != 10 {
		t.Errorf("%d lines:\n%s", n, got)
	}
}

func TestWrap(t *testing.T) {
	for _, s := range []string{"", "one", "one two three four five", strings.Repeat("x", 50), "a " + strings.Repeat("y", 30) + " b"} {
		lines := wrap(s, 10)
		for _, l := range lines {
			if len(l) > 10 {
				t.Errorf("wrap(%q): %q is longer than 10", s, l)
			}
		}
		if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(s, " ", "") {
			t.Errorf("wrap(%q) lost something: %q", s, lines)
		}
	}
}

func TestCSV(t *testing.T) {
	var b strings.Builder
	if err := WriteCSV(&b, sample()); err != nil {
		t.Fatal(err)
	}
	want := "name,kernel,parameters,zeros\n/features/features.10/Conv,3x3,1234567,0.25\n/features/features.20/Conv,3x3,64,\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := WriteCSV(&b, sample(), sample()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\nmodel.onnx,"); n != 4 || !strings.HasPrefix(b.String(), "file,name,") {
		t.Errorf("several documents:\n%s", b.String())
	}
	if err := WriteCSV(&b, Document{Title: "x"}); !errors.Is(err, ErrNoTable) {
		t.Errorf("a document without a table: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWritersReportFailure(t *testing.T) {
	if err := WriteText(failing{}, TextOptions{}, sample()); err == nil {
		t.Error("WriteText: no error")
	}
	if err := WriteCSV(failing{}, sample()); err == nil {
		t.Error("WriteCSV: no error")
	}
	if err := WriteJSON(failing{}, 1); err == nil {
		t.Error("WriteJSON: no error")
	}
}

func TestModulePath(t *testing.T) {
	for _, c := range []struct{ name, op, want string }{
		{"/features/features.2/features.2.0/block/block.1/block.1.0/Conv", "Conv", "features.2.0/block.1.0"},
		{"/layer1/layer1.0/conv1/Conv", "Conv", "layer1.0/conv1"},
		{"/conv1/Conv", "Conv", "conv1"},
		{"/fc/Gemm", "Conv", "/fc/Gemm"},
		{"conv1", "Conv", "conv1"},
		{"/Conv", "Conv", "/Conv"},
		{"a/b/Conv", "Conv", "a/b/Conv"},
		{"/a/ab/a.b/Conv", "Conv", "a/ab/a.b"},
	} {
		if got := modulePath(c.name, c.op); got != c.want {
			t.Errorf("%q: %q, want %q", c.name, got, c.want)
		}
	}
}

// Short names that two layers would share are not used.
func TestTextKeepsShortNamesDistinct(t *testing.T) {
	tab := &Table{Columns: []Column{{Title: "name", Shrink: true}, {Title: "x"}}, Rows: [][]Cell{
		{{Text: "/a/first/second", Short: "second"}, Words("1")},
		{{Text: "/b/other/second", Short: "second"}, Words("2")},
	}}
	op := []Cell{operatorName("BatchNormalization"), operatorName("Conv"), operatorName("Gemm")}
	texts := [][]string{{"BatchNormalization"}, {"Conv"}, {"Gemm"}}
	if useShort([][]Cell{op[:1], op[1:2], op[2:]}, texts); texts[0][0] != "BatchNorm" {
		t.Errorf("a column with and without short texts: %q", texts)
	}
	got := text(t, TextOptions{Width: 20}, Document{Sections: []Section{{Table: tab}}})
	if strings.Contains(got, "  second") || !strings.Contains(got, "/a/") || !strings.Contains(got, "/b/") {
		t.Errorf("got\n%s", got)
	}
}
