package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"filterlens": main})
}

// TestScripts runs testdata/script. Each script has in its environment
//
//	$VGG     the fixture model, with its preprocessing and labels recorded
//	$GLYPHS  its data set
//	$BADOP   the same model with an operator that no runtime knows
func TestScripts(t *testing.T) {
	fixtures, err := filepath.Abs("../../fixtures")
	if err != nil {
		t.Fatal(err)
	}
	vgg := filepath.Join(fixtures, "vgg16-glyphs20.onnx")
	badOp := filepath.Join(t.TempDir(), "badop.onnx")
	writeBadOp(t, vgg, badOp)
	library := sync.OnceValues(func() (ort.Library, error) {
		return ort.Locate(context.Background(), ort.Options{Log: func(s string) { t.Log(s) }})
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			lib, err := library()
			if err != nil {
				return err
			}
			e.Setenv("FILTERLENS_ORT_LIBRARY", lib.Path)
			e.Setenv("VGG", vgg)
			e.Setenv("GLYPHS", filepath.Join(fixtures, "glyphs20"))
			e.Setenv("BADOP", badOp)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "lines": lines, "truncate": truncate, "empty-dir": emptyDir, "images": images,
		},
	})
}

// exits runs a program and checks its exit code: exits 2 filterlens inspect.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var ee *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ee) {
		code = ee.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// lines checks how many lines stdout, stderr or a file has: lines stderr 1.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines file count")
	}
	if n := strconv.Itoa(strings.Count(ts.ReadFile(args[0]), "\n")); n != args[1] {
		ts.Fatalf("%s has %s lines, want %s:\n%s", args[0], n, args[1], ts.ReadFile(args[0]))
	}
}

// truncate copies the first bytes of a file: truncate from to count.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: truncate from to count")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	b := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b[:n]), 0o666))
}

// emptyDir checks that a folder holds nothing, hidden files included.
func emptyDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty-dir folder")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// images writes one small image to each of the files: images a/x.png b/x.png.
func images(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		path := ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
		var b bytes.Buffer
		ts.Check(png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))))
		ts.Check(os.WriteFile(path, b.Bytes(), 0o666))
	}
}

// writeBadOp writes a copy of a model whose first Relu is an operator of another
// domain.
func writeBadOp(t *testing.T, from, to string) {
	t.Helper()
	f, err := onnxfile.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	for _, n := range d.Model.Graph.Node {
		if n.GetOpType() == "Relu" {
			op := "Nonsense"
			n.OpType = &op
			break
		}
	}
	b, err := d.Bytes()
	if err == nil {
		err = os.WriteFile(to, b, 0o666)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", to, err))
	}
}
