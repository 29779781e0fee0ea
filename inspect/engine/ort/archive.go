//go:build cgo

package ort

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxUnpacked bounds what is decompressed on the way to a member of a package.
const maxUnpacked = 1 << 30

// verify reads a file and compares it with its pin.
func verify(ctx context.Context, path string, want blob) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return want.copy(ctx, io.Discard, f)
}

// copy copies exactly the blob from r to w and fails when size or sum differ.
func (b blob) copy(ctx context.Context, w io.Writer, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(reader{ctx, r}, b.size+1))
	if err != nil {
		return err
	}
	if n > b.size {
		return fmt.Errorf("it is longer than the %d bytes that are pinned", b.size)
	}
	if n < b.size {
		return fmt.Errorf("it has %d bytes, %d are pinned", n, b.size)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != b.sum {
		return fmt.Errorf("its SHA-256 is %s, %s is pinned", sum, b.sum)
	}
	return nil
}

// reader stops reading when its context is cancelled.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// extract writes one member of a wheel (.whl) or of a gzipped tar file to a new
// file at target. Names inside the archive never become paths.
func extract(ctx context.Context, archive string, member blob, target string) error {
	w, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if filepath.Ext(archive) == ".whl" {
		err = extractZip(ctx, archive, member, w)
	} else {
		err = extractTar(ctx, archive, member, w)
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func extractZip(ctx context.Context, archive string, member blob, w io.Writer) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if f.Name != member.name || !f.Mode().IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		return wrapMember(member, member.copy(ctx, w, r))
	}
	return fmt.Errorf("no member %s", member.name)
}

func extractTar(ctx context.Context, archive string, member blob, w io.Writer) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	r := tar.NewReader(io.LimitReader(reader{ctx, unzipped}, maxUnpacked))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return fmt.Errorf("no member %s", member.name)
		}
		if err != nil {
			return err
		}
		if h.Name == member.name && h.Typeflag == tar.TypeReg {
			return wrapMember(member, member.copy(ctx, w, r))
		}
	}
}

func wrapMember(member blob, err error) error {
	if err != nil {
		return fmt.Errorf("member %s: %w", member.name, err)
	}
	return nil
}
