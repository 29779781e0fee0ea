package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/filterlens/filterlens/inspect/report"
)

// modelPaths replaces each folder among the arguments by the .onnx files below
// it, in the order of their names; links are not followed. many tells whether
// the arguments stand for a list, be it of one.
func modelPaths(args []string) (paths []string, many bool, err error) {
	many = len(args) > 1
	fromInput := false
	for _, a := range args {
		if a == "-" {
			if fromInput {
				return nil, false, usage("standard input (-) is given twice; it can be read once")
			}
			fromInput = true
		}
		if a == "-" || !isFolder(a) {
			paths = append(paths, a)
			continue
		}
		many = true
		below, err := modelsBelow(a)
		if err != nil {
			return nil, false, err
		}
		if len(below) == 0 {
			return nil, false, usage("no .onnx file is in the folder %s or below", a)
		}
		paths = append(paths, below...)
	}
	return paths, many, nil
}

func modelsBelow(folder string) (paths []string, err error) {
	// With a slash at its end a link to a folder is walked like the folder.
	err = filepath.WalkDir(folder+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return notOpened(path, err)
		}
		if !d.IsDir() && strings.EqualFold(filepath.Ext(path), ".onnx") {
			paths = append(paths, filepath.Clean(path))
		}
		return nil
	})
	return paths, err
}

// inOrder yields what work makes of each item, in the order of the items, with
// some more being made meanwhile. It ends early when ctx does. Nothing is left
// running when it has ended.
func inOrder[A, B any](ctx context.Context, items []A, work func(context.Context, A) B) iter.Seq[B] {
	return func(yield func(B) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		ahead := make(chan chan B, 2*runtime.GOMAXPROCS(0))
		running.Go(func() {
			defer close(ahead)
			for _, item := range items {
				result := make(chan B, 1)
				select {
				case ahead <- result:
				case <-ctx.Done():
					return
				}
				running.Go(func() { result <- work(ctx, item) })
			}
		})
		for result := range ahead {
			if !yield(<-result) {
				return
			}
		}
	}
}

// An inspected model is what a list keeps of it: its file is closed.
type inspected struct {
	summary report.Summary
	doc     report.Document
	value   any
	warning string
	// batchIdle says that the batch asked for does nothing.
	batchIdle bool
}

// list reports on many models as they are read. A model that cannot be read
// stands in its place and does not keep the others from being shown.
func (in *inspection) list(out output, paths []string) error {
	var count struct{ unread, found, errors, warnings, batchIdle int }
	models := func(yield func(inspected) bool) {
		for r := range inOrder(in.c.Context, paths, in.one) {
			if r.warning != "" {
				in.k.warn("it could not run: %s", r.warning)
			}
			if r.batchIdle {
				count.batchIdle++
			}
			if r.summary.Err != "" {
				count.unread++
			}
			if r.summary.Errors+r.summary.Warnings > 0 {
				count.found++
			}
			count.errors += r.summary.Errors
			count.warnings += r.summary.Warnings
			if !yield(r) {
				return
			}
		}
	}
	err := out.write(in.k.stdout, func(w io.Writer) error {
		if err := in.writeList(w, out, models); err != nil {
			return err
		}
		return in.c.Context.Err()
	})
	if count.batchIdle > 0 {
		in.k.warn("--batch %d has no effect on %s: no input leaves its first dimension open", in.opt.Batch, plural(count.batchIdle, "model"))
	}
	if err != nil {
		return err
	}
	said := ""
	if n := count.errors + count.warnings; n > 0 {
		said = fmt.Sprintf("%s in %d of %d models: %s", plural(n, "finding"), count.found, len(paths), levels(count.errors, count.warnings))
	}
	switch {
	case count.unread == 0 && said == "":
		return nil
	case count.unread == 0:
		return &verdictError{said}
	case said == "":
		return fmt.Errorf("%d of %s could not be read", count.unread, plural(len(paths), "model"))
	}
	return fmt.Errorf("%d of %s could not be read; %s", count.unread, plural(len(paths), "model"), said)
}

// writeList writes models while they are read, rows when all have been.
func (in *inspection) writeList(w io.Writer, out output, models iter.Seq[inspected]) error {
	docs := func(yield func(report.Document) bool) {
		for r := range models {
			if !yield(r.doc) {
				return
			}
		}
	}
	if in.rows {
		var rows []report.Summary
		for r := range models {
			rows = append(rows, r.summary)
		}
		if err := in.c.Context.Err(); err != nil {
			return err
		}
		docs = slices.Values([]report.Document{report.FromSummaries(rows, in.check)})
	}
	switch out.format {
	case jsonOut:
		return report.WriteJSONs(w, func(yield func(any) bool) {
			for r := range models {
				if !yield(r.value) {
					return
				}
			}
		})
	case csvOut:
		return report.WriteCSVs(w, !in.rows, docs)
	case htmlOut:
		if in.rows {
			return report.WriteDocumentsHTML(w, slices.Collect(docs)...)
		}
		return in.writePages(w, models)
	}
	return report.WriteTexts(w, out.textOptions(in.k), docs)
}

// writePages writes one page of many models, which are held until all are read:
// their table stands first.
func (in *inspection) writePages(w io.Writer, models iter.Seq[inspected]) error {
	var list []report.Model
	for r := range models {
		if m, ok := r.value.(report.Model); ok {
			list = append(list, m)
		} else {
			in.k.warn("%s: %s", r.summary.File, r.summary.Err)
		}
	}
	if err := in.c.Context.Err(); err != nil {
		return err
	}
	return report.WriteHTML(w, list...)
}

// one reads a model of many.
func (in *inspection) one(ctx context.Context, path string) (r inspected) {
	m, findings, err := in.read(ctx, path)
	if err != nil {
		return failed(path, err)
	}
	defer m.Close()
	r.summary = report.Summarize(m, findings)
	r.batchIdle = batchIdle(m)
	if in.rows {
		return r
	}
	if !in.check {
		if err := m.Check(); err != nil {
			r.warning = err.Error()
		}
	}
	v := report.NewModel(m, in.sel, findings)
	switch in.format {
	case htmlOut:
		r.value = v
	case jsonOut:
		// Made here, where it is done for several models at once.
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return failed(path, err)
		}
		r.value = json.RawMessage(b.Bytes())
	default:
		r.doc = report.FromModel(v, in.main)
	}
	return r
}

// failed is what a list says of a model that it cannot report on.
func failed(path string, err error) (r inspected) {
	name := path
	if path == "-" {
		name = "standard input"
	}
	f := report.Failure{File: name, Error: withoutName(name, err)}
	r.summary.File, r.summary.Err = f.File, f.Error
	r.doc, r.value = report.FromFailure(f), f
	return r
}

// withoutName takes the name of the file, which stands beside it, out of the
// beginning of a message.
func withoutName(name string, err error) string {
	s := oneLine(err.Error())
	if rest, ok := strings.CutPrefix(s, name+": "); ok {
		return rest
	}
	if rest, ok := strings.CutPrefix(s, "cannot open "+name+": "); ok {
		return "cannot be opened: " + rest
	}
	return s
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
