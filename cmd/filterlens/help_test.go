package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

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
