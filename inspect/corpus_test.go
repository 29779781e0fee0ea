package inspect

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

var update = flag.Bool("update", false, "write the expected tables below testdata")

const (
	// corpusTable is what TestCorpus is expected to find.
	corpusTable = "testdata/corpus.txt"
	// corpusMemory bounds what reading one file may allocate beyond its own
	// skeleton, in bytes; corpusTime is a hang, not a slow machine.
	corpusMemory = 64 << 20
	corpusTime   = 20 * time.Second
	// corpusSmall is the size below which files that are no models are tried too.
	corpusSmall = 1 << 20
)

// TestCorpus reads every file below the folder FILTERLENS_CORPUS, which CI sets
// where it has one: models of other projects' test suites and the files beside
// them. A report or a typed error is right; a panic, a hang, an error of no type
// or much memory is not. What was read and refused, and why, must be as in
// testdata/corpus.txt; -update writes it.
func TestCorpus(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	c := newCorpus(t, root)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case filepath.Ext(path) == ".onnx":
			c.model(path)
			if info.Size() < corpusSmall {
				c.cut(path)
			}
		case info.Size() < corpusSmall:
			c.other(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.suites) == 0 {
		t.Fatal("no file was found")
	}

	got := c.table()
	slices.SortFunc(c.costs, func(a, b cost) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, m := range c.costs[:min(3, len(c.costs))] {
		t.Logf("%.2f MB allocated beyond a skeleton of %.2f MB, %v: %s", float64(m.bytes)/1e6, float64(m.skeleton)/1e6, m.took.Round(time.Millisecond), m.file)
	}
	if *update {
		if err := os.WriteFile(corpusTable, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(corpusTable)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(corpusTable, want, "this run", got); d != nil {
		t.Fatalf("the corpus reads differently; if that is right, run with -update:\n%s", d)
	}
	t.Logf("as expected:\n%s", got)
}

// A corpus collects what became of the files below a folder.
type corpus struct {
	t      *testing.T
	root   string
	suites map[string]*tally
	// reasons counts refusals by kind of file and reason.
	reasons map[[2]string]int
	// refused, unread and unsound hold paths with their messages.
	refused, unread, unsound [][2]string
	costs                    []cost
}

// A tally counts the files of one suite: models, models cut to half their size,
// and everything else.
type tally struct {
	models, described, refused, unread, unsound int
	cutDescribed, cutRefused                    int
	otherDescribed, otherRefused                int
}

// A verdict is what became of one file: why it could not be described; why,
// when it could, its weights could not be read; why it could not run.
type verdict struct{ refused, unread, unsound error }

// A cost is what reading one file allocated beyond its skeleton.
type cost struct {
	file            string
	bytes, skeleton int64
	took            time.Duration
}

func newCorpus(t *testing.T, root string) *corpus {
	return &corpus{t: t, root: root, suites: map[string]*tally{}, reasons: map[[2]string]int{}}
}

// model reads a file that says it is a model.
func (c *corpus) model(path string) {
	s := c.suite(path)
	s.models++
	v := c.read(path, func() (*onnxfile.File, error) { return onnxfile.Open(path) })
	note := func(kind string, err error, count *int, list *[][2]string) {
		if err != nil {
			*count++
			c.reason(kind, path, err)
			*list = append(*list, [2]string{c.rel(path), c.message(path, err)})
		}
	}
	if v.refused == nil {
		s.described++
	}
	note("model", v.refused, &s.refused, &c.refused)
	note("weights", v.unread, &s.unread, &c.unread)
	note("could not run", v.unsound, &s.unsound, &c.unsound)
}

// cut reads the first half of a model, as a broken download leaves it.
func (c *corpus) cut(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		c.t.Error(err)
		return
	}
	half := int64(len(b) / 2)
	s := c.suite(path)
	v := c.read(path, func() (*onnxfile.File, error) { return onnxfile.Read(bytes.NewReader(b), half, path) })
	if v.refused != nil {
		s.cutRefused++
		c.reason("cut", path, v.refused)
	} else {
		s.cutDescribed++
	}
}

// other reads a file that is no model: protobuf of another message, text.
func (c *corpus) other(path string) {
	s := c.suite(path)
	v := c.read(path, func() (*onnxfile.File, error) { return onnxfile.Open(path) })
	if v.refused != nil {
		s.otherRefused++
		c.reason("other", path, v.refused)
	} else {
		s.otherDescribed++
	}
}

// read opens and describes a file, without its weights and with them, and
// watches over panics, time and memory.
func (c *corpus) read(path string, open func() (*onnxfile.File, error)) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			c.t.Errorf("%s: panic: %v\n%s", path, p, debug.Stack())
			v.refused = fmt.Errorf("panic: %v", p)
		}
	}()
	// A hang ends the whole test, with the stacks that say where.
	hang := time.AfterFunc(corpusTime, func() { panic(fmt.Sprintf("%s: not done after %v", path, corpusTime)) })
	defer hang.Stop()

	var f *onnxfile.File
	c.measure(path, func() (skeleton int64) {
		if f, v.refused = open(); v.refused != nil {
			return 0
		}
		var m *Model
		if m, v.refused = New(context.Background(), f, Options{}); v.refused == nil {
			v.unsound = m.Check()
		}
		// The size on the wire stands for the skeleton's size in memory, which is
		// larger: the bound is the stricter for it.
		return int64(proto.Size(f.Model))
	})
	if f == nil {
		return v
	}
	defer f.Close()
	if v.refused == nil {
		c.measure(path, func() int64 {
			_, v.unread = New(context.Background(), f, Options{Weights: true, Statistics: true})
			return 0
		})
	}
	return v
}

// allocated returns the bytes that the process has allocated so far. Their
// difference bounds from above what a call in between held at once.
func allocated() int64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.TotalAlloc)
}

// measure checks the time that do takes and what it allocates beyond the size
// of a skeleton, which it returns, in bytes.
func (c *corpus) measure(path string, do func() (skeleton int64)) {
	start, before := time.Now(), allocated()
	m := cost{file: c.rel(path), skeleton: do()}
	m.took, m.bytes = time.Since(start), allocated()-before-m.skeleton
	c.costs = append(c.costs, m)
	if m.bytes > corpusMemory {
		c.t.Errorf("%s: reading it allocated %d bytes beyond its skeleton of %d, at most %d are allowed", path, m.bytes, m.skeleton, corpusMemory)
	}
	if m.took > corpusTime {
		c.t.Errorf("%s: reading it took %v", path, m.took)
	}
}

func (c *corpus) rel(path string) string {
	rel, err := filepath.Rel(c.root, path)
	if err != nil {
		c.t.Fatal(err)
	}
	return filepath.ToSlash(rel)
}

// suite returns the tally of the suite that path belongs to: "onnx/node" for
// the backend tests of ONNX, else up to three folders.
func (c *corpus) suite(path string) *tally {
	parts := strings.Split(c.rel(path), "/")
	name := strings.Join(parts[:min(3, len(parts)-1)], "/")
	if i := slices.Index(parts, "data"); i > 0 && parts[i-1] == "test" && i+1 < len(parts)-1 {
		name = parts[0] + "/" + parts[i+1]
	}
	if name == "" {
		name = "."
	}
	if c.suites[name] == nil {
		c.suites[name] = &tally{}
	}
	return c.suites[name]
}

var (
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	digits = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)
)

// reason counts why a file was refused: the class of the error and its message without
// names and numbers.
func (c *corpus) reason(kind, path string, err error) {
	class := errorClass(err)
	if class == "" {
		c.t.Errorf("%s: an error of no type: %v", path, err)
	}
	text := quoted.ReplaceAllString(strings.TrimPrefix(err.Error(), path+": "), "NAME")
	c.reasons[[2]string{kind, class + ": " + digits.ReplaceAllString(text, "N")}]++
}

func (c *corpus) message(path string, err error) string {
	return errorClass(err) + ": " + strings.ReplaceAll(strings.TrimPrefix(err.Error(), path+": "), c.root, "")
}

// errorClass names the outermost typed error that err is or wraps, "" when
// there is none.
func errorClass(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		switch err.(type) {
		case *onnxfile.FormatError:
			return "FormatError"
		case *onnxfile.TensorError:
			return "TensorError"
		case *GraphError:
			return "GraphError"
		}
	}
	return ""
}

// table writes everything that was counted as text.
func (c *corpus) table() []byte {
	var b bytes.Buffer
	b.WriteString("What inspect makes of the files of other projects' test suites. Written by\n" +
		"FILTERLENS_CORPUS=DIR go test ./inspect -run '^TestCorpus$' -update\n\n" +
		"Cut: the first half of each model. Other: files beside the models (tensors as protobuf, text).\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "models\tdescribed\trefused\tweights unread\tcould not run\tcut: described\trefused\tother: described\trefused\t  suite")
	var sum tally
	row := func(name string, s *tally) {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t  %s\n", s.models, s.described, s.refused, s.unread, s.unsound,
			s.cutDescribed, s.cutRefused, s.otherDescribed, s.otherRefused, name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.suites)) {
		s := c.suites[name]
		row(name, s)
		sum.models += s.models
		sum.described += s.described
		sum.refused += s.refused
		sum.unread += s.unread
		sum.unsound += s.unsound
		sum.cutDescribed += s.cutDescribed
		sum.cutRefused += s.cutRefused
		sum.otherDescribed += s.otherDescribed
		sum.otherRefused += s.otherRefused
	}
	row("all", &sum)
	w.Flush()

	for _, part := range []struct{ kind, title string }{
		{"model", "Why models were refused"},
		{"weights", "Why weights of models that were described could not be read"},
		{"could not run", "Why models that were described could not run"},
		{"cut", "Why halves of models were refused"},
		{"other", "Why other files were refused"},
	} {
		fmt.Fprintf(&b, "\n%s\n\n", part.title)
		var keys [][2]string
		for k := range c.reasons {
			if k[0] == part.kind {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, func(x, y [2]string) int {
			return cmp.Or(cmp.Compare(c.reasons[y], c.reasons[x]), strings.Compare(x[1], y[1]))
		})
		for _, k := range keys {
			fmt.Fprintf(&b, "%6d  %s\n", c.reasons[k], k[1])
		}
	}
	for _, part := range []struct {
		title string
		files [][2]string
	}{{"Models refused", c.refused}, {"Models whose weights could not be read", c.unread}, {"Models that could not run", c.unsound}} {
		fmt.Fprintf(&b, "\n%s\n\n", part.title)
		for _, f := range part.files {
			fmt.Fprintf(&b, "%s\n    %s\n", f[0], f[1])
		}
	}
	return b.Bytes()
}
