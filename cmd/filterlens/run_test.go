package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/export"
	"github.com/filterlens/filterlens/inspect/engine"
)

const (
	vggFixture = "../../fixtures/vgg16-glyphs20.onnx"
	glyphs     = "../../fixtures/glyphs20"
)

// cancelling is standard error that ends the work when a text is written to it.
type cancelling struct {
	bytes.Buffer
	at     string
	cancel func()
}

func (c *cancelling) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(c.at)) {
		c.cancel()
	}
	return c.Buffer.Write(b)
}

// Whenever the work is interrupted the exit code is 130, one line says so, and
// neither a file nor a goroutine is left.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	stats := filepath.Join(dir, "stats.json")
	if code := run(t.Context(), []string{"inspect", vggFixture, "--data", glyphs, "--epochs", "1", "--per-label", "20", "-q", "-o", stats}, nil, io.Discard, io.Discard); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   string
		args []string
	}{
		{"collecting features", []string{"inspect", vggFixture, "--data", glyphs, "--epochs", "5", "-o", filepath.Join(out, "x.json"), "-v"}},
		{"judging heads", []string{"inspect", vggFixture, "--data", glyphs, "--epochs", "1", "--per-label", "20", "-o", filepath.Join(out, "x.json"), "-v"}},
		{"finding clusters", []string{"inspect", vggFixture, "--data", glyphs, "--epochs", "1", "--per-label", "20", "--statistics", "all", "-o", filepath.Join(out, "x.html"), "--plot", "depth=" + filepath.Join(out, "x.svg"), "-v"}},
		{"comparing samples", []string{"inspect", vggFixture, "--data", glyphs, "-o", filepath.Join(out, "x.json"), "-v"}},
		{"checking weights", []string{"prune", "--afcc", vggFixture, "--stats", stats, "--data", glyphs, "-o", filepath.Join(out, "x.onnx"), "-v"}},
	} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		stderr := &cancelling{at: c.at, cancel: cancel}
		if code := run(ctx, c.args, nil, io.Discard, stderr); code != exitInterrupted {
			t.Errorf("after %q: exit code %d: %s", c.at, code, stderr)
		}
		cancel()
		if !strings.HasSuffix(stderr.String(), "filterlens: interrupted\n") {
			t.Errorf("after %q: %s", c.at, stderr)
		}
		if left, _ := os.ReadDir(out); len(left) > 0 {
			t.Errorf("after %q: %v is left", c.at, left)
		}
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("after %q: %d goroutines, %d before", c.at, n, before)
		}
	}
}

// A measurement that was interrupted goes on from what --resume has kept, and gives
// the same file as one that was not.
func TestInterruptedGoesOn(t *testing.T) {
	dir := t.TempDir()
	whole, out, state := filepath.Join(dir, "whole.json"), filepath.Join(dir, "out.json"), filepath.Join(dir, "state")
	args := []string{"inspect", vggFixture, "--data", glyphs, "--epochs", "2", "--per-label", "20", "--layers", "conv9,conv10", "-v"}
	if code := run(t.Context(), append(args, "-o", whole), nil, io.Discard, io.Discard); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	args = append(args, "-o", out, "--resume", state)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &cancelling{at: "judging heads", cancel: cancel}
	if code := run(ctx, args, nil, io.Discard, stderr); code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if want := "filterlens: what was found so far is kept in " + state + "; the same command goes on from there\n"; !strings.Contains(stderr.String(), want) {
		t.Errorf("%q is not in %s", want, stderr)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the output is there: %v", err)
	}
	var again bytes.Buffer
	if code := run(t.Context(), args, nil, io.Discard, &again); code != 0 {
		t.Fatalf("exit code %d: %s", code, &again)
	}
	if strings.Contains(again.String(), "training heads") {
		t.Errorf("heads are trained again:\n%s", &again)
	}
	a, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the files differ, %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: errors.New("no space left on device")}
}

func TestFullStandardOutput(t *testing.T) {
	for _, format := range []string{"text", "json", "csv"} {
		for _, args := range [][]string{{vggFixture}, {vggFixture, vggFixture}} {
			var stderr bytes.Buffer
			if code := run(t.Context(), append([]string{"inspect", "-f", format}, args...), nil, full{}, &stderr); code != exitUsage {
				t.Errorf("%s: exit code %d", format, code)
			}
			if want := "filterlens: cannot write to standard output: no space left on device\n"; stderr.String() != want {
				t.Errorf("%s: %q, want %q", format, stderr.String(), want)
			}
		}
	}
}

// An interrupt amid many models leaves no list that looks whole, and no file.
func TestInterruptMany(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, format := range []string{"text", "json", "csv"} {
		for _, full := range []string{"--full=false", "--full"} {
			if full == "--full" && format == "json" {
				continue
			}
			out := filepath.Join(t.TempDir(), "out."+strings.Replace(format, "text", "txt", 1))
			var stdout, stderr bytes.Buffer
			if code := run(ctx, []string{"inspect", vggFixture, vggFixture, full, "-o", out}, nil, &stdout, &stderr); code != exitInterrupted {
				t.Errorf("%s %s: exit code %d", format, full, code)
			}
			if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 || stdout.Len() > 0 || stderr.String() != "filterlens: interrupted\n" {
				t.Errorf("%s %s: left %v, stdout %q, stderr %q", format, full, left, stdout.String(), stderr.String())
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errSaid, 1},
		{&export.VerdictError{}, 1},
		{&verdictError{"1 finding"}, 1},
		{usage("x"), 2},
		{io.ErrUnexpectedEOF, 2},
		{os.ErrNotExist, 2},
		{&engine.UnavailableError{}, 3},
		{&engine.Error{Err: io.EOF}, 4},
		{errors.Join(io.EOF, &engine.Error{Err: context.Canceled}), 130},
		{context.Canceled, 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestArrange(t *testing.T) {
	commands := []*cli.Command{{Name: "verb", Flags: []cli.Flag{
		&cli.StringFlag{Name: "data"}, &cli.IntFlag{Name: "top", Aliases: []string{"t"}}, &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}}, &cli.StringFlag{Name: "filters"},
	}}}
	for _, c := range []struct{ in, want string }{
		{"verb a b", "verb -- a b"},
		{"verb a --data d b -q", "verb --data d -q -- a b"},
		{"verb a --data=d -t 3", "verb --data=d -t 3 -- a"},
		{"verb a -t -3", "verb -t -3 -- a"},
		{"verb - a", "verb -- - a"},
		{"verb --data - a", "verb --data - -- a"},
		{"verb -q -- -a --data", "verb -q -- -a --data"},
		{"verb a --nonsense b", "verb --nonsense -- a b"},
		{"verb a --filters b", "verb --filters=* -- a b"},
		{"verb a --filters=x b", "verb --filters=x -- a b"},
		{"-q verb a", "verb -q -- a"},
		{"verb a -h b", "verb --help"},
		{"verb --nonsense --help", "verb --help"},
		{"verb -- -h", "verb -- -h"},
		{"other a --data", "other a --data"},
		{"--version", "--version"},
		{"", ""},
	} {
		got, err := arrange(commands, strings.Fields(c.in))
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"verb a --data", "verb --data --quiet a", "verb --data -t=3", "verb --data --"} {
		if got, err := arrange(commands, strings.Fields(in)); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}

func TestByteSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
	}{
		{"4GB", 4e9}, {"4GiB", 4 << 30}, {"512 MiB", 512 << 20}, {"1.5g", 15e8}, {"1000", 1000}, {"7B", 7},
	} {
		if got, err := byteSize("--memory", c.in); err != nil || got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", "x", "-1GB", "0", "NaN", "1e30", "4 PB"} {
		if got, err := byteSize("--memory", in); err == nil {
			t.Errorf("%q: %d, want an error", in, got)
		}
	}
}

func TestBarLine(t *testing.T) {
	for _, c := range []struct {
		done, total int
		spent       time.Duration
		want        string
	}{
		{0, 100, 0, "training               [................] 0/100"},
		{50, 100, 500 * time.Millisecond, "training               [########........] 50/100"},
		{500, 2000, 10 * time.Second, "training               [####............] 500/2,000  50/s  30 s left"},
		{3, 3, 20 * time.Second, "training               [################] 3/3"},
		{0, 0, 0, "training               [................] 0/0"},
	} {
		if got := barLine("training", c.done, c.total, c.spent); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
