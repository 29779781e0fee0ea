package inspect_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// findingsTable is what TestFindingsCorpus is expected to find.
const findingsTable = "testdata/findings.txt"

// TestFindingsCorpus looks at every model below the folder FILTERLENS_CORPUS.
// How many findings there are of each code, and every error, must be as in
// testdata/findings.txt, which -update writes. Where ONNX Runtime is at hand, no
// model with an error may load in it.
func TestFindingsCorpus(t *testing.T) {
	root := os.Getenv("FILTERLENS_CORPUS")
	if root == "" {
		t.Skip("FILTERLENS_CORPUS is not set")
	}
	type key struct{ code, level string }
	counts := make(map[key][2]int) // findings, models
	var errors []string
	wrong := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".onnx" {
			return err
		}
		f, err := onnxfile.Open(path)
		if err != nil {
			return nil // TestCorpus counts those
		}
		defer f.Close()
		m, err := inspect.New(t.Context(), f, inspect.Options{})
		if err != nil {
			return nil
		}
		list, err := m.Findings(t.Context(), inspect.FindingOptions{Weights: true})
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		seen := make(map[key]bool)
		for _, x := range list {
			k := key{x.Code, x.Level}
			c := counts[k]
			if c[0]++; !seen[k] {
				c[1]++
			}
			seen[k], counts[k] = true, c
			if x.Level == inspect.LevelError {
				errors = append(errors, filepath.ToSlash(name)+": "+x.Code+": "+x.Text)
				wrong[path] = x.Text
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	var table bytes.Buffer
	fmt.Fprintf(&table, "What inspect finds in the files of other projects' test suites. Written by\nFILTERLENS_CORPUS=DIR go test ./inspect -run '^TestFindingsCorpus$' -update\n\n")
	fmt.Fprintf(&table, "%-22s  %-7s  %8s  %6s\n", "code", "level", "findings", "models")
	var rows []string
	for k, c := range counts {
		rows = append(rows, fmt.Sprintf("%-22s  %-7s  %8d  %6d\n", k.code, k.level, c[0], c[1]))
	}
	slices.Sort(rows)
	slices.Sort(errors)
	fmt.Fprintf(&table, "%s\n%s\n", strings.Join(rows, ""), strings.Join(errors, "\n"))
	t.Logf("the table:\n%s", table.Bytes())
	loadable(t, wrong)
	if inspect.Update() {
		if err := os.WriteFile(findingsTable, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(findingsTable)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(findingsTable, want, "this run", table.Bytes()); d != nil {
		t.Errorf("the findings are others; if that is right, run with -update:\n%s", d)
	}
}

// loadable fails for every model that ONNX Runtime loads.
func loadable(t *testing.T, models map[string]string) {
	if _, err := ort.Locate(t.Context(), ort.Options{Offline: true}); err != nil {
		t.Log(err)
		return
	}
	e, err := ort.Open(t.Context(), ort.Options{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for path, text := range models {
		s, err := e.Load(t.Context(), engine.Model{Name: path, Path: path})
		if err == nil {
			s.Close()
			t.Errorf("%s loads in ONNX Runtime %s, and an error is found: %s", path, e.Version(), text)
		}
	}
	t.Logf("ONNX Runtime %s loads none of the %d models with errors", e.Version(), len(models))
}
