package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the golden files")

// The help of the program and of each verb, word for word.
func TestHelpGolden(t *testing.T) {
	for _, verb := range []string{"filterlens", "inspect", "prune", "compare", "eval", "runtime"} {
		args := []string{verb, "--help"}
		if verb == "filterlens" {
			args = args[1:]
		}
		var b bytes.Buffer
		if code := run(t.Context(), args, nil, &b, &b); code != 0 {
			t.Errorf("%s: exit code %d", verb, code)
		}
		path := filepath.Join("testdata", "help", verb+".txt")
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s (go test -update writes it): got\n%s\nwant\n%s", path, b.Bytes(), want)
		}
	}
}

// Help fits a terminal of 80 columns and names every flag.
func TestHelpFits(t *testing.T) {
	app := newApp(nil, nil, nil)
	for _, c := range app.Commands {
		var b bytes.Buffer
		if code := run(t.Context(), []string{c.Name, "model.onnx", "-h"}, nil, &b, &b); code != 0 {
			t.Errorf("%s: exit code %d", c.Name, code)
		}
		for l := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(l, "\n")); n > helpWidth {
				t.Errorf("%s: %d columns: %q", c.Name, n, l)
			}
		}
		for _, f := range c.Flags {
			if !f.(cli.VisibleFlag).IsVisible() {
				continue
			}
			if name := dashed(f.Names()[0]); !strings.Contains(b.String(), name) {
				t.Errorf("%s: %s is not in its help", c.Name, name)
			}
		}
	}
}
