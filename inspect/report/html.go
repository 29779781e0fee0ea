package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"strings"
)

//go:embed assets/page.tmpl
var pageTemplate string

//go:embed assets/page.css
var pageCSS string

//go:embed assets/page.js
var pageJS string

// drawJS is what the scripts of several sections draw with.
//
//go:embed assets/draw.js
var drawJS string

// maxHTMLRows bounds each table of a page: beyond it a browser becomes slow, and
// CSV serves better. A note says how many rows are left out.
const maxHTMLRows = 10_000

// A htmlPage is what the template is filled with.
type htmlPage struct {
	Title, Policy string
	CSS           template.CSS
	JS            template.JS
	Several       bool
	List          *htmlTable
	Stats         *htmlStats
	Compared      *htmlCompared
	Models        []*htmlModel
	Documents     []htmlDocument
}

// WriteHTML writes models as one page that needs nothing else: no network, no
// other file, and a policy that lets nothing run but its own script. With
// several models a table of them stands first. Whatever a file holds is written
// as text. The drawing of the graph is there when m.Graph is; graphs of more
// than maxDrawn nodes are collapsed by block.
func WriteHTML(w io.Writer, models ...Model) error {
	p := htmlPage{Title: "filterlens inspect", Several: len(models) != 1}
	for i, m := range models {
		v, err := newHTMLModel(m, fmt.Sprintf("m%d", i))
		if err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
		p.Models = append(p.Models, v)
	}
	if p.Several {
		p.Title = plural(len(models), "model")
		p.List = modelList(models)
	} else {
		p.Title = p.Models[0].Title
	}
	return p.write(w)
}

// WriteDocumentsHTML writes documents as one page of tables in the manner of
// WriteHTML.
func WriteDocumentsHTML(w io.Writer, docs ...Document) error {
	p := htmlPage{Title: "filterlens"}
	for i, d := range docs {
		if i == 0 {
			p.Title = printable(cmp.Or(d.Title, p.Title))
		}
		p.Documents = append(p.Documents, newHTMLDocument(d))
	}
	return p.write(w)
}

func (p *htmlPage) write(w io.Writer) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return err
	}
	for _, section := range []string{statsTemplate, comparedTemplate} {
		if t, err = t.Parse(section); err != nil {
			return err
		}
	}
	css, js := pageCSS+widthClasses(), pageJS
	if p.Stats != nil {
		css, js = css+statsCSS, js+drawJS+statsJS
	}
	if p.Compared != nil {
		css, js = css+statsCSS+comparedCSS, js+drawJS+comparedJS
	}
	p.CSS, p.JS = template.CSS(css), template.JS(js)
	p.Policy = "default-src 'none'; script-src " + sourceHash(js) + "; style-src " + sourceHash(css) + "; base-uri 'none'; form-action 'none'"
	b := bufio.NewWriterSize(w, 1<<16)
	if err := t.Execute(b, p); err != nil {
		return err
	}
	return b.Flush()
}

// sourceHash names an inline script or style in a Content-Security-Policy.
func sourceHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"
}

// widthClasses are the lengths of bars: the policy forbids styles in elements.
func widthClasses() string {
	var b strings.Builder
	for i := 1; i <= 100; i++ {
		fmt.Fprintf(&b, ".w%d{width:%d%%}", i, i)
	}
	b.WriteString("\n")
	return b.String()
}

// A htmlTable is a sortable table without bars.
type htmlTable struct {
	Heads []htmlHead
	Rows  [][]htmlCell
	// Long asks for a search box.
	Long bool
}

type htmlHead struct {
	Title string
	Right bool
}

// A htmlCell sorts by Sort when Sorted, else by its text.
type htmlCell struct {
	Text, Link, Class, Sort string
	Sorted                  bool
}

type htmlDocument struct {
	Title    string
	Warnings []string
	Sections []htmlSection
}

type htmlSection struct {
	Title string
	Facts []htmlFact
	Table *htmlTable
	Notes []string
}

type htmlFact struct{ Name, Value, Class string }

func newHTMLDocument(d Document) htmlDocument {
	h := htmlDocument{Title: printable(d.Title), Warnings: printables(d.Warnings)}
	for _, s := range d.Sections {
		hs := htmlSection{Title: printable(s.Title), Notes: printables(s.Notes)}
		for _, f := range s.Facts {
			hs.Facts = append(hs.Facts, htmlFact{printable(f.Name), printable(f.Value.Text), toneClass(f.Value.Tone)})
		}
		if s.Table != nil && len(s.Table.Rows) > 0 {
			shown := visible(s.Table)
			t := &htmlTable{Long: len(shown.Rows) > 20}
			for _, c := range shown.Columns {
				t.Heads = append(t.Heads, htmlHead{printable(c.Title), c.Right})
			}
			rows := shown.Rows
			if len(rows) > maxHTMLRows {
				rows = rows[:maxHTMLRows]
				hs.Notes = append(hs.Notes, leftOut(len(shown.Rows)-len(rows), "row"))
			}
			for _, row := range rows {
				cells := make([]htmlCell, len(row))
				for i, c := range row {
					cells[i] = documentCell(c, shown.Columns[i].Right)
				}
				t.Rows = append(t.Rows, cells)
			}
			hs.Table = t
		}
		h.Sections = append(h.Sections, hs)
	}
	return h
}

func documentCell(c Cell, right bool) htmlCell {
	h := htmlCell{Text: printable(c.Text)}
	classes := make([]string, 0, 3)
	if right {
		classes = append(classes, "num")
	}
	switch c.Raw.(type) {
	case nil:
		classes = append(classes, "unknown")
	case string:
	default:
		h.Sort, h.Sorted = fmt.Sprint(c.Raw), true
	}
	if t := toneClass(c.Tone); t != "" {
		classes = append(classes, t)
	}
	h.Class = strings.Join(classes, " ")
	return h
}

func toneClass(t Tone) string {
	switch t {
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Changed:
		return "changed"
	case Faint:
		return "faint"
	}
	return ""
}

func printables(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = printable(s)
	}
	return out
}

func leftOut(n int, word string) string {
	return plural(n, word) + " left out of this page; CSV and JSON hold all"
}

// modelList is the table of several models.
func modelList(models []Model) *htmlTable {
	t := &htmlTable{Heads: []htmlHead{{"file", false}, {"opset", false}, {"input", false}, {"output", false}, {"layers", true}, {"nodes", true},
		{"parameters", true}, {"MACs", true}, {"weights", true}, {"peak activations", true}, {"file size", true}}}
	for i, m := range models {
		first := func(n int, shape func() string) htmlCell {
			if n == 0 {
				return htmlCell{Class: "unknown", Text: "none"}
			}
			return htmlCell{Text: printable(shape())}
		}
		num := func(c Cell) htmlCell { return documentCell(c, true) }
		file := htmlCell{Text: printable(filepath.Base(m.File)), Link: fmt.Sprintf("#m%d", i)}
		t.Rows = append(t.Rows, []htmlCell{file, {Text: printable(opsets(m.Model))},
			first(len(m.Inputs), func() string { return m.Inputs[0].Shape.String() }), first(len(m.Outputs), func() string { return m.Outputs[0].Shape.String() }),
			num(Count(int64(m.Totals.Layers))), num(Count(int64(m.Totals.Nodes))), num(atLeast(Scaled(m.Totals.Parameters), m.Totals.ParametersUnknown)), num(atLeast(optional(m.Totals.MACs, Scaled, absent), m.Totals.MACsUnknown)),
			num(Bytes(m.Totals.WeightBytes)), num(atLeast(optional(m.Totals.PeakActivationBytes, Bytes, absent), m.Totals.ActivationsUnknown)), num(Bytes(m.FileBytes))})
	}
	return t
}
