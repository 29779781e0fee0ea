package report

import (
	"bufio"
	"cmp"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TextOptions says what the text is for.
type TextOptions struct {
	// Width is that of the terminal, 0 when it is none: tables are then as wide
	// as they need to be.
	Width int
	// Color allows escape sequences.
	Color bool
	// ASCII draws with ASCII characters alone. Names stay as they are.
	ASCII bool
}

// proseWidth is how wide sentences run where there is no terminal.
const proseWidth = 100

// minName is the shortest that a text is shortened to.
const minName = 12

// WriteText writes documents for people: columns aligned, numbers to the right.
// Control characters, which names in a file may contain, are replaced.
func WriteText(w io.Writer, opt TextOptions, docs ...Document) error {
	return WriteTexts(w, opt, slices.Values(docs))
}

// WriteTexts is WriteText for documents that are made while they are written.
func WriteTexts(w io.Writer, opt TextOptions, docs iter.Seq[Document]) error {
	t := textWriter{w: bufio.NewWriter(w), opt: opt}
	first := true
	for d := range docs {
		if !first {
			t.line("")
		}
		first = false
		t.document(d)
		if err := t.w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

type textWriter struct {
	w   *bufio.Writer
	opt TextOptions
}

const (
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

func (t *textWriter) style(code, s string) string {
	if !t.opt.Color || code == "" || s == "" {
		return s
	}
	return code + s + reset
}

func toneCode(tone Tone) string {
	switch tone {
	case Added:
		return green
	case Removed:
		return red
	case Changed:
		return yellow
	case Faint:
		return faint
	}
	return ""
}

// inASCII replaces the characters that reports draw with.
var inASCII = func() *strings.Replacer {
	pairs := []string{"…", "~"}
	for i, r := range []rune(blocks) {
		pairs = append(pairs, string(r), asciiBlocks[i:i+1])
	}
	return strings.NewReplacer(pairs...)
}()

// line writes s and a line break. Errors stay in the bufio.Writer until Flush.
func (t *textWriter) line(s string) {
	if t.opt.ASCII {
		s = inASCII.Replace(s)
	}
	t.w.WriteString(strings.TrimRight(s, " "))
	t.w.WriteByte('\n')
}

func (t *textWriter) prose() int {
	if t.opt.Width > 0 {
		return min(t.opt.Width, proseWidth)
	}
	return proseWidth
}

func (t *textWriter) document(d Document) {
	if d.Title != "" {
		t.line(t.style(bold, printable(d.Title)))
	}
	for _, s := range d.Warnings {
		for i, l := range wrap(printable(s), t.prose()-9) {
			if i == 0 {
				t.line(t.style(bold+yellow, "warning:") + " " + t.style(yellow, l))
			} else {
				t.line("         " + t.style(yellow, l))
			}
		}
	}
	first := d.Title == "" && len(d.Warnings) == 0
	for _, s := range d.Sections {
		if !first {
			t.line("")
		}
		first = false
		t.section(s)
	}
}

func (t *textWriter) section(s Section) {
	if s.Title != "" {
		t.line(t.style(bold, printable(s.Title)))
	}
	width := 0
	for _, f := range s.Facts {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	for _, f := range s.Facts {
		room := t.prose() - width - 4
		for i, l := range wrap(printable(f.Value.Text), max(room, 20)) {
			name := ""
			if i == 0 {
				name = printable(f.Name)
			}
			t.line("  " + pad(name, width, false) + "  " + t.style(toneCode(f.Value.Tone), l))
		}
	}
	notes := s.Notes
	if s.Table != nil && len(s.Table.Rows) > 0 {
		if len(s.Facts) > 0 {
			t.line("")
		}
		if left := t.table(s.Table); len(left) > 0 {
			notes = append(slices.Clone(notes), "not shown, for the terminal is too narrow (names may be shortened, too): "+strings.Join(left, ", "))
		}
	}
	if len(notes) > 0 {
		t.line("")
	}
	for _, n := range notes {
		for i, l := range wrap(printable(n), t.prose()-4) {
			indent := "  "
			if i > 0 {
				indent = "    "
			}
			t.line(indent + t.style(faint, l))
		}
	}
}

// table writes a table and returns the titles of the columns left out.
func (t *textWriter) table(tab *Table) (left []string) {
	tab = visible(tab)
	cols := slices.Clone(tab.Columns)
	texts := make([][]string, len(tab.Rows))
	for r, row := range tab.Rows {
		texts[r] = make([]string, len(cols))
		for c := range cols {
			texts[r][c] = printable(row[c].Text)
		}
	}
	widths := columnWidths(cols, texts)
	shown := make([]bool, len(cols))
	for c := range shown {
		shown[c] = true
	}
	if t.opt.Width > 0 && tableWidth(widths, shown) > t.opt.Width {
		useShort(tab.Rows, texts)
		widths = columnWidths(cols, texts)
		left = fit(cols, widths, shortest(cols, texts), shown, t.opt.Width)
	}
	var head strings.Builder
	for c, col := range cols {
		if shown[c] {
			head.WriteString("  " + pad(col.Title, widths[c], col.Right))
		}
	}
	t.line(t.style(faint, strings.TrimRight(head.String(), " ")))
	for r := range texts {
		var b strings.Builder
		var more []string
		indent := 0
		for c, col := range cols {
			if !shown[c] {
				continue
			}
			s := texts[r][c]
			if utf8.RuneCountInString(s) > widths[c] {
				if col.Wrap && c == len(cols)-1 {
					lines := wrap(s, widths[c])
					s, more = lines[0], lines[1:]
				} else {
					s = shorten(s, widths[c])
				}
			}
			if c < len(cols)-1 {
				indent += widths[c] + 2
			}
			padded := pad(s, widths[c], col.Right)
			b.WriteString("  ")
			b.WriteString(strings.Replace(padded, s, t.style(toneCode(tab.Rows[r][c].Tone), s), 1))
		}
		t.line(b.String())
		for _, l := range more {
			t.line(strings.Repeat(" ", indent+2) + l)
		}
	}
	return left
}

// visible returns the table without the columns that a text has not.
func visible(tab *Table) *Table {
	kept := make([]int, 0, len(tab.Columns))
	for c, col := range tab.Columns {
		if !col.Hidden && (!col.Sparse || slices.ContainsFunc(tab.Rows, func(row []Cell) bool { return row[c].Text != "" })) {
			kept = append(kept, c)
		}
	}
	if len(kept) == len(tab.Columns) {
		return tab
	}
	dense := &Table{Rows: make([][]Cell, len(tab.Rows))}
	for _, c := range kept {
		dense.Columns = append(dense.Columns, tab.Columns[c])
		for r, row := range tab.Rows {
			dense.Rows[r] = append(dense.Rows[r], row[c])
		}
	}
	return dense
}

// useShort replaces the texts of each column by the short ones, unless that would
// make two of them equal.
func useShort(rows [][]Cell, texts [][]string) {
	if len(rows) == 0 {
		return
	}
columns:
	for c := range rows[0] {
		long := map[string]string{}
		for _, row := range rows {
			s := cmp.Or(row[c].Short, row[c].Text)
			if was, ok := long[s]; ok && was != row[c].Text {
				continue columns
			}
			long[s] = row[c].Text
		}
		for r, row := range rows {
			if row[c].Short != "" {
				texts[r][c] = printable(row[c].Short)
			}
		}
	}
}

// shortest returns how far each column may be shortened: as long as texts that
// differ still do.
func shortest(cols []Column, texts [][]string) []int {
	least := make([]int, len(cols))
	for c, col := range cols {
		if !col.Shrink {
			continue
		}
		least[c] = max(minName, utf8.RuneCountInString(col.Title))
	wider:
		for ; ; least[c]++ {
			long := map[string]string{}
			for _, row := range texts {
				s := shorten(row[c], least[c])
				if was, ok := long[s]; ok && was != row[c] {
					continue wider
				}
				long[s] = row[c]
			}
			break
		}
	}
	return least
}

// columnWidths returns the characters that each column needs.
func columnWidths(cols []Column, texts [][]string) []int {
	widths := make([]int, len(cols))
	for c, col := range cols {
		widths[c] = utf8.RuneCountInString(col.Title)
		for r := range texts {
			widths[c] = max(widths[c], utf8.RuneCountInString(texts[r][c]))
		}
	}
	return widths
}

// tableWidth returns the characters of a line with two spaces before each column.
func tableWidth(widths []int, shown []bool) int {
	n := 0
	for c, w := range widths {
		if shown[c] {
			n += w + 2
		}
	}
	return n
}

// fit narrows widths until a line has at most width characters: it wraps the
// last column, shortens names as far as they stay distinct, leaves columns out,
// and shortens names further only when nothing else helps.
func fit(cols []Column, widths, least []int, shown []bool, width int) (left []string) {
	if last := len(cols) - 1; last >= 0 && cols[last].Wrap {
		if over := tableWidth(widths, shown) - width; over > 0 {
			widths[last] = max(min(widths[last], 24), widths[last]-over)
		}
	}
	// shrink takes from the widest column that may give.
	shrink := func(least func(c int) int) {
		for tableWidth(widths, shown) > width {
			wide := -1
			for c, col := range cols {
				if shown[c] && col.Shrink && widths[c] > least(c) && (wide < 0 || widths[c] > widths[wide]) {
					wide = c
				}
			}
			if wide < 0 {
				return
			}
			widths[wide]--
		}
	}
	full := slices.Clone(widths)
	distinct := func(c int) int { return least[c] }
	shrink(distinct)
	for tableWidth(widths, shown) > width {
		drop := -1
		for c, col := range cols {
			if shown[c] && col.Drop > 0 && (drop < 0 || col.Drop > cols[drop].Drop) {
				drop = c
			}
		}
		if drop < 0 {
			shrink(func(c int) int { return min(least[c], minName) })
			break
		}
		shown[drop] = false
		copy(widths, full)
		shrink(distinct)
	}
	for c, col := range cols {
		if !shown[c] {
			left = append(left, col.Title)
		}
	}
	return left
}

// pad fills s with spaces to a width in characters.
func pad(s string, width int, right bool) string {
	n := width - utf8.RuneCountInString(s)
	if n <= 0 {
		return s
	}
	if right {
		return strings.Repeat(" ", n) + s
	}
	return s + strings.Repeat(" ", n)
}

// shorten takes characters out of s before its end, which tells a name of a path
// from its neighbours better than its beginning.
func shorten(s string, width int) string {
	r := []rune(s)
	if len(r) <= width || width < 4 {
		return s
	}
	tail := (width - 1) * 2 / 3
	return string(r[:width-1-tail]) + "…" + string(r[len(r)-tail:])
}

// wrap cuts s into lines of at most width characters, at spaces where it can.
func wrap(s string, width int) []string {
	width = max(width, 8)
	var lines []string
	r := []rune(s)
	for len(r) > width {
		cut := width
		for i := width; i > width/3; i-- {
			if r[i] == ' ' {
				cut = i
				break
			}
		}
		lines = append(lines, strings.TrimRight(string(r[:cut]), " "))
		r = r[cut:]
		for len(r) > 0 && r[0] == ' ' {
			r = r[1:]
		}
	}
	return append(lines, string(r))
}

// printable replaces what would move the cursor or change the terminal: names
// come from files.
func printable(s string) string {
	ok := func(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case ok(r):
			return r
		case r == '\n' || r == '\t':
			return ' '
		}
		return '?'
	}, s)
}
