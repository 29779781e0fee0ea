package onnxfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/filterlens/filterlens/inspect/onnxfile"
)

func TestWriteFile(t *testing.T) {
	original, err := os.ReadFile("../../fixtures/vgg16-glyphs20.onnx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "source.onnx")
	if err := os.WriteFile(source, original, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := onnxfile.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	link := filepath.Join(dir, "link.onnx")
	if err := os.Symlink(source, link); err != nil {
		t.Skip(err)
	}
	broken := f.Draft()
	broken.SetRaw(broken.Model.Graph.Initializer[0], unreadable{})
	written := filepath.Join(dir, "written.onnx")
	for _, test := range []struct {
		name, path string
		draft      *onnxfile.Draft
		want       error
	}{
		{"a new file", written, f.Draft(), nil},
		{"another in its place", written, f.Draft(), nil},
		{"the source", source, f.Draft(), onnxfile.ErrSource},
		{"a link to the source", link, f.Draft(), onnxfile.ErrSource},
		{"no folder", filepath.Join(dir, "no", "x.onnx"), f.Draft(), os.ErrNotExist},
		{"data that cannot be read", written, broken, errUnreadable},
	} {
		if err := test.draft.WriteFile(test.path); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		for _, path := range []string{source, written} {
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, original) {
				t.Errorf("%s: %s changed, %v", test.name, path, err)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

var errUnreadable = errors.New("unreadable")

type unreadable struct{}

func (unreadable) Len() int64                       { return 4 }
func (unreadable) WriteTo(io.Writer) (int64, error) { return 0, errUnreadable }
