package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// helpWidth is how wide help may be, helpColumn where the descriptions of flags
// begin.
const (
	helpWidth  = 80
	helpColumn = 25
)

// printHelp writes the help of the program or of a verb, data, in the place of
// the library's templates, which know no width.
func printHelp(w io.Writer, _ string, data any) {
	var b strings.Builder
	var flags []cli.Flag
	switch d := data.(type) {
	case *cli.App:
		helpLines(&b, "", d.Name+": "+d.Usage)
		helpLines(&b, "\nUsage\n", d.UsageText)
		b.WriteString("\nVerbs\n")
		for _, c := range d.Commands {
			helpEntry(&b, c.Name, c.Usage, 10)
		}
		helpText(&b, d.Description)
		flags = d.Flags
	case *cli.Command:
		helpLines(&b, "", "filterlens "+d.Name+": "+d.Usage)
		helpLines(&b, "\nUsage\n", d.UsageText)
		helpText(&b, d.Description)
		flags = d.Flags
	}
	for _, group := range categories(flags) {
		title := "\n" + cmp.Or(group, "Other") + "\n"
		for _, f := range flags {
			d, ok := f.(cli.DocGenerationFlag)
			if v, can := f.(cli.VisibleFlag); can && !v.IsVisible() {
				continue
			}
			if !ok || categoryOf(f) != group {
				continue
			}
			b.WriteString(title)
			title = ""
			name, text := flagHelp(f, d)
			helpEntry(&b, name, text, helpColumn)
		}
	}
	io.WriteString(w, b.String())
}

// categories returns the groups of flags in their order, those without one last.
func categories(flags []cli.Flag) (list []string) {
	for _, f := range flags {
		if c := categoryOf(f); c != "" && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return append(list, "")
}

func categoryOf(f cli.Flag) string {
	if c, ok := f.(cli.CategorizableFlag); ok {
		return c.GetCategory()
	}
	return ""
}

// flagHelp returns the left and the right side of a flag's help.
func flagHelp(f cli.Flag, d cli.DocGenerationFlag) (name, text string) {
	// The short name stands first, as people know it from other programs.
	for _, n := range f.Names() {
		if utf8.RuneCountInString(n) == 1 {
			name = dashed(n) + ", "
		}
	}
	name += dashed(f.Names()[0])
	text = d.GetUsage()
	before, value, quoted := strings.Cut(text, "`")
	value, after, _ := strings.Cut(value, "`")
	if quoted {
		text = before + value + after
	} else {
		value = "X"
	}
	if d.TakesValue() {
		name += " " + value
	}
	if def := defaultOf(f, d); def != "" {
		text += " (default: " + def + ")"
	}
	return name, text
}

// defaultOf returns what help says of a flag that is not given.
func defaultOf(f cli.Flag, d cli.DocGenerationFlag) string {
	if !d.TakesValue() {
		return ""
	}
	if _, list := f.(*cli.StringSliceFlag); list {
		return ""
	}
	return strings.Trim(d.GetDefaultText(), `"`)
}

// helpLines writes a heading and a text of several lines.
func helpLines(b *strings.Builder, heading, text string) {
	if text == "" {
		return
	}
	b.WriteString(heading)
	indent := ""
	if strings.HasSuffix(heading, "\n") && len(heading) > 1 {
		indent = "  "
	}
	for l := range strings.SplitSeq(text, "\n") {
		for _, l := range wrapWords(l, helpWidth-len(indent)) {
			b.WriteString(indent + l + "\n")
		}
	}
}

// helpText writes paragraphs, which an empty line parts.
func helpText(b *strings.Builder, text string) {
	for p := range strings.SplitSeq(text, "\n\n") {
		helpLines(b, "\n", strings.ReplaceAll(p, "\n", " "))
	}
}

// helpEntry writes a name and, from a column on, what it stands for.
func helpEntry(b *strings.Builder, name, text string, column int) {
	lines := wrapWords(text, helpWidth-column-2)
	if utf8.RuneCountInString(name) > column-2 {
		fmt.Fprintf(b, "  %s\n", name)
		name = ""
	}
	for _, l := range lines {
		fmt.Fprintf(b, "  %-*s%s\n", column, name, l)
		name = ""
	}
}

// wrapWords cuts a text at spaces into lines of at most width characters.
func wrapWords(s string, width int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(s) {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
			lines = append(lines, line)
			line = w
		default:
			line += " " + w
		}
	}
	return append(lines, line)
}
