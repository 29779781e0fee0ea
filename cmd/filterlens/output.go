package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/report"
)

// The formats of a report.
const (
	text    = "text"
	jsonOut = "json"
	csvOut  = "csv"
	htmlOut = "html"
)

// output is where a report goes and in which format.
type output struct {
	path   string // "" is standard output
	format string
}

// outputOf reads -o and -f, and refuses before any work what could not be
// written after it: an unknown format, a folder, one of the inputs.
func outputOf(c *cli.Context, inputs ...string) (output, error) {
	o := output{path: c.String("output"), format: c.String("format")}
	if c.IsSet("output") && o.path == "" {
		return o, usage("-o needs the name of a file, or - for standard output")
	}
	if o.path == "-" || o.path == "/dev/stdout" {
		o.path = ""
	}
	o.format = strings.ToLower(o.format)
	if c.IsSet("format") {
		if err := checkFormat(o.format); err != nil {
			return o, err
		}
	}
	if o.path == "" {
		if o.format == "" {
			o.format = text
		}
		return o, nil
	}
	if isDevice(o.path) {
		o.format = cmp.Or(o.format, text)
		return o, nil
	}
	ending := strings.ToLower(strings.TrimPrefix(filepath.Ext(o.path), "."))
	byEnding := map[string]string{"json": jsonOut, "csv": csvOut, "txt": text, "text": text, "html": htmlOut, "htm": htmlOut}[ending]
	switch {
	case o.format == "" && byEnding == "" && isFolder(o.path):
		return o, checkTarget(o.path)
	case o.format == "" && byEnding == "":
		return o, usage("the ending of %s names no format; name one with -f text, json, csv or html", o.path)
	case o.format == "":
		o.format = byEnding
	case byEnding != "" && byEnding != o.format:
		return o, usage("-f %s and the ending of %s contradict each other", o.format, o.path)
	}
	if err := checkFormat(o.format); err != nil {
		return o, err
	}
	return o, checkTarget(o.path, append(inputs, flagFiles(c)...)...)
}

// flagFiles returns the files that flags name as inputs.
func flagFiles(c *cli.Context) []string {
	files := []string{c.String("stats"), c.String("labels"), c.String("data")}
	for _, l := range slices.Concat(c.StringSlice("layers"), c.StringSlice("taps"), []string{c.String("filters"), c.String("statistics")}) {
		if path, ok := strings.CutPrefix(l, "@"); ok {
			files = append(files, path)
		}
	}
	return files
}

func checkFormat(f string) error {
	switch f {
	case text, jsonOut, csvOut, htmlOut:
		return nil
	}
	return usage("unknown format %q; the formats are text, json, csv and html", f)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isDevice tells whether path is written to as it stands, like /dev/null or a
// named pipe, for nothing can take its place.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&(fs.ModeDevice|fs.ModeCharDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0
}

// checkTarget tells whether a file can be written at path, and leaves nothing.
func checkTarget(path string, inputs ...string) error {
	if out, err := os.Stat(path); err == nil {
		for _, in := range inputs {
			if info, err := os.Stat(in); in != "" && err == nil && os.SameFile(info, out) {
				return usage("the output %s is an input; give another path", path)
			}
		}
	}
	p, err := onnxfile.CreatePending(path)
	if err != nil {
		return err
	}
	p.Abort()
	return nil
}

// write calls fn with the file at o.path, which takes its place when fn is done,
// or with standard output.
func (o output) write(stdout io.Writer, fn func(io.Writer) error) error {
	if o.path == "" {
		if err := fn(stdout); err != nil {
			return writeError("standard output", err)
		}
		return nil
	}
	if isDevice(o.path) {
		return writeDevice(o.path, fn)
	}
	p, err := onnxfile.CreatePending(o.path)
	if err != nil {
		return err
	}
	defer p.Abort()
	if err := fn(p); err != nil {
		return writeError(o.path, err)
	}
	return p.Commit()
}

func writeDevice(path string, fn func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return writeError(path, err)
	}
	err = fn(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return writeError(path, err)
	}
	return nil
}

func writeError(where string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("cannot write to %s: %w", where, pe.Err)
	}
	return err
}

// report writes documents, or value as JSON.
func (o output) report(k *console, value any, docs ...report.Document) error {
	return o.write(k.stdout, func(w io.Writer) error {
		switch o.format {
		case jsonOut:
			return report.WriteJSON(w, value)
		case csvOut:
			return report.WriteCSV(w, docs...)
		case htmlOut:
			if m, ok := value.(report.Model); ok {
				return report.WriteHTML(w, m)
			}
			return report.WriteDocumentsHTML(w, docs...)
		}
		return report.WriteText(w, o.textOptions(k), docs...)
	})
}

// textOptions says how text looks where it goes.
func (o output) textOptions(k *console) report.TextOptions {
	if o.path != "" {
		return report.TextOptions{}
	}
	return k.textOptions()
}
