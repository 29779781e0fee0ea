// Package report turns results into documents and writes them: as text and as
// HTML pages for people, as CSV for spreadsheets, as JSON for programs.
//
// The From functions decide what a reader is told, in which order, and which
// definition goes with a number; the writers know nothing of models or filters.
// JSON, and the page that draws a model, are not made from documents but from
// the results themselves, so that nothing is rounded or lost. Nothing is
// computed here that a result does not already hold, apart from sums, units and
// pictures, and nothing is opened or run.
package report

import "strings"

// A Document is a report as a person reads it.
type Document struct {
	Title string
	// Warnings are sentences that must not be missed; they stand at the top.
	Warnings []string
	Sections []Section
	// Key names what its rows are of, "layer", and Of is that thing: a column of CSV,
	// where text has the title.
	Key, Of string
}

// A Section is one part of a document. Its parts are written in the order of
// its fields; each may be empty.
type Section struct {
	Title string
	Facts []Fact
	Table *Table
	// Notes are sentences below the rest: definitions, what is left out and why.
	Notes []string
}

// A Fact is a name and its value.
type Fact struct {
	Name  string
	Value Cell
}

// A Table has as many cells in each row as there are columns. Without rows it is
// left out of a text; as CSV its header stays.
type Table struct {
	// Main marks the table that stands for the document as CSV.
	Main    bool
	Columns []Column
	Rows    [][]Cell
}

// A Column says how the cells below its title are shown.
type Column struct {
	// Title heads the column; Key is its name in CSV, with the unit of the raw
	// values where they have one ("median_ms"); without a Key it is not in CSV.
	Title, Key string
	// Right aligns numbers.
	Right bool
	// Shrink allows to shorten its texts in the middle when the table is wider
	// than the terminal, Wrap, of the last column, to continue them below.
	Shrink, Wrap bool
	// Drop, when positive, allows to leave the column out on a terminal that is
	// too narrow, the largest number first.
	Drop int
	// Sparse leaves the column out of a text when all its cells are empty, Hidden
	// in any case.
	Sparse, Hidden bool
}

// A Cell is a value in two forms.
type Cell struct {
	// Text is for people: rounded, with units. Short, if any, stands for it in a
	// column that has to shrink.
	Text, Short string
	// Raw is for programs: a string, bool, integer or float64, unrounded; nil is
	// unknown.
	Raw  any
	Tone Tone
}

// A Tone is what a colour would say.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Added
	Removed
	Changed
	Faint
)

// Words returns a cell that is a text in both forms.
func Words(s string) Cell { return Cell{Text: s, Raw: s} }

// layerName returns the cell of layers that share a row.
func layerName(op string, names ...string) Cell {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = modulePath(n, op)
	}
	c := Words(strings.Join(names, " + "))
	c.Short = strings.Join(short, " + ")
	return c
}

// LayerName returns what layers that end in one tensor are called where there is
// little room: "features.2.0" for a convolution that PyTorch's exporter calls
// "/features/features.2/features.2.0/Conv". op is the operator of the first.
func LayerName(op string, names ...string) string { return layerName(op, names...).Short }

// modulePath shortens a name as PyTorch's exporter makes them, in which each
// part repeats the one before and the operator ends it all:
// "/features/features.2/features.2.0/Conv" becomes "features.2.0".
func modulePath(name, op string) string {
	path, ok := strings.CutPrefix(name, "/")
	path, ok2 := strings.CutSuffix(path, "/"+op)
	if !ok || !ok2 || path == "" {
		return name
	}
	parts := strings.Split(path, "/")
	var kept []string
	for i, p := range parts {
		if i+1 < len(parts) && strings.HasPrefix(parts[i+1], p+".") {
			continue
		}
		kept = append(kept, p)
	}
	return strings.Join(kept, "/")
}

// unread is the cell of a value that was not read, absent one that is not known,
// none one that the row does not have.
var (
	unread = Cell{Text: "-"}
	absent = Cell{Text: "unknown"}
	none   = Cell{}
)
