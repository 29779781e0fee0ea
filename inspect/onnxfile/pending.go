package onnxfile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A Pending file is written beside its target and takes the target's place only
// on Commit, so that a reader sees the old file or the new one and a failure
// leaves nothing behind.
type Pending struct {
	target string
	f      *os.File
	w      *bufio.Writer
}

// CreatePending opens a pending file for target. It fails at once when the
// folder is missing or not writable or when target is a folder.
func CreatePending(target string) (*Pending, error) {
	mode := fs.FileMode(0o666)
	if info, err := os.Stat(target); err == nil {
		if !info.Mode().IsRegular() {
			what := "not a regular file"
			if info.IsDir() {
				what = "a folder, not a file"
			}
			return nil, fmt.Errorf("cannot write %s: it is %s", target, what)
		}
		mode = info.Mode().Perm()
	}
	dir, base := filepath.Split(target)
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf(".%s.%08x.tmp", base, rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return nil, fmt.Errorf("cannot write %s: %w", target, err)
		}
		return &Pending{target: target, f: f, w: bufio.NewWriterSize(f, 1<<20)}, nil
	}
	return nil, fmt.Errorf("cannot write %s: no free temporary name beside it", target)
}

// Write implements io.Writer.
func (p *Pending) Write(b []byte) (int, error) { return p.w.Write(b) }

// Path flushes what was written and returns where it lies until Commit.
func (p *Pending) Path() (string, error) {
	if err := p.w.Flush(); err != nil {
		return "", p.fail(err)
	}
	return p.f.Name(), nil
}

// Commit syncs the file and moves it to its target. On failure nothing is left.
func (p *Pending) Commit() error {
	err := p.w.Flush()
	if err == nil {
		err = p.f.Sync()
	}
	if cerr := p.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(p.f.Name(), p.target)
	}
	if err != nil {
		os.Remove(p.f.Name())
		p.f = nil
		return p.fail(err)
	}
	p.f = nil
	return nil
}

func (p *Pending) fail(err error) error { return fmt.Errorf("cannot write %s: %w", p.target, err) }

// Abort removes the pending file. After Commit it does nothing, so it can be
// deferred.
func (p *Pending) Abort() {
	if p.f != nil {
		p.f.Close()
		os.Remove(p.f.Name())
		p.f = nil
	}
}
