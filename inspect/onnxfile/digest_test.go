package onnxfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// externalFile writes a model with one tensor beside it and returns its path.
func externalFile(t *testing.T, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	tensor := &onnxpb.TensorProto{Name: proto.String("w"), Dims: []int64{int64(len(data) / 4)}, DataType: proto.Int32(int32(Float)),
		DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(), ExternalData: []*onnxpb.StringStringEntryProto{
			{Key: proto.String("location"), Value: proto.String("w.data")}}}
	b, err := proto.Marshal(&onnxpb.ModelProto{IrVersion: proto.Int64(7), Graph: &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{tensor}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "m.onnx")
	for name, content := range map[string][]byte{path: b, filepath.Join(dir, "w.data"): data} {
		if err := os.WriteFile(name, content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestSHA256(t *testing.T) {
	path := externalFile(t, make([]byte, 64))
	sum := func() string {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := f.SHA256(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(append(own, make([]byte, 64)...))
	first := sum()
	if first != hex.EncodeToString(want[:]) {
		t.Errorf("hash %s, want %x", first, want)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "w.data"), append(make([]byte, 63), 1), 0o666); err != nil {
		t.Fatal(err)
	}
	if sum() == first {
		t.Error("other weights beside the file, the same hash")
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.SHA256(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSameFile(t *testing.T) {
	path := externalFile(t, make([]byte, 64))
	dir := filepath.Dir(path)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("w.data", link); err != nil {
		t.Skip(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for p, want := range map[string]bool{path: true, filepath.Join(dir, "w.data"): true, link: true, filepath.Join(dir, "none"): false, dir: false} {
		if f.SameFile(p) != want {
			t.Errorf("SameFile(%s) = %v", p, !want)
		}
	}
}

// What is read must not be overwritten, under whichever name it goes; a hard
// link is refused as data, but it is the same file all the same.
func TestSameFileBehindLinks(t *testing.T) {
	root := tree(t, "w", "blobs/HASH1", "blobs/HASH2", "snapshots/m.onnx -> ../blobs/HASH1", "snapshots/w -> ../blobs/HASH2",
		"hard/m.onnx", "secret", "hard/w = secret")
	for model, data := range map[string]string{"snapshots/m.onnx": "blobs/HASH2", "hard/m.onnx": "secret"} {
		f := openAt(t, filepath.Join(root, model))
		if !f.SameFile(filepath.Join(root, data)) || f.SameFile(filepath.Join(root, "blobs")) {
			t.Errorf("%s: SameFile is wrong", model)
		}
	}
}
