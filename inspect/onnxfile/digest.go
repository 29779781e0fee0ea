package onnxfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// SHA256 returns the hexadecimal hash of the model's bytes: of the file, and of
// each range that its tensors take beside it, in the order of the file. Without
// external data it is the file's own SHA-256. It fails with a *TensorError when
// external data cannot be read.
func (f *File) SHA256(ctx context.Context) (string, error) {
	h := sha256.New()
	add := func(r io.ReaderAt, off, n int64) error {
		_, err := io.Copy(h, ctxReader{ctx, io.NewSectionReader(r, off, n)})
		return err
	}
	err := add(f.r, 0, f.Size)
	eachTensor(f.Model, func(t *onnxpb.TensorProto) {
		if err != nil || !isExternal(t) {
			return
		}
		var ext *steadyFile
		var off, n int64
		if ext, off, n, err = f.externalRange(t); err == nil {
			err = add(ext, off, n)
			ext.Close()
		}
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// SameFile tells whether path is a file that the model is read from: its own, or
// one that holds external data. A path where nothing is gives false.
func (f *File) SameFile(path string) bool {
	target, err := os.Stat(path)
	if err != nil {
		return false
	}
	if own, err := os.Stat(f.Name); err == nil && os.SameFile(own, target) {
		return true
	}
	same := false
	seen := map[string]bool{}
	eachTensor(f.Model, func(t *onnxpb.TensorProto) {
		if same || !isExternal(t) {
			return
		}
		e, err := parseExternal(t)
		if err != nil || seen[e.location] {
			return
		}
		seen[e.location] = true
		// A file that is refused for its other names counts too.
		info, _ := f.folders.stat(e.location)
		same = info != nil && os.SameFile(info, target)
	})
	return same
}
