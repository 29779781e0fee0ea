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
	target string // as the user gave it
	final  string // the same without links
	f      *os.File
	w      *bufio.Writer
}

// CreatePending opens a pending file for target. It fails at once when the
// folder is missing or not writable or when target is not a regular file. A
// file that is there keeps its permissions, and a link to it stays a link.
func CreatePending(target string) (*Pending, error) {
	p := &Pending{target: target, final: target}
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info = nil
	case err != nil:
		return nil, p.fail(err)
	case info.IsDir():
		return nil, p.fail(errors.New("it is a folder, not a file"))
	case !info.Mode().IsRegular():
		return nil, p.fail(errNotRegular)
	default:
		if p.final, err = filepath.EvalSymlinks(target); err != nil {
			return nil, p.fail(err)
		}
	}
	dir, base := filepath.Split(p.final)
	if base == "" {
		return nil, p.fail(errors.New("no file name"))
	}
	for range 100 {
		// Not made from the target's name: a long one would become too long.
		name := filepath.Join(dir, fmt.Sprintf(".filterlens-%08x.tmp", rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, p.fail(err)
		}
		p.f, p.w = f, bufio.NewWriterSize(f, 1<<20)
		if info != nil {
			if err := f.Chmod(info.Mode().Perm()); err != nil {
				p.Abort()
				return nil, p.fail(err)
			}
		}
		return p, nil
	}
	return nil, p.fail(errors.New("no free temporary name beside it"))
}

// Write implements io.Writer.
func (p *Pending) Write(b []byte) (int, error) {
	if p.f == nil {
		return 0, p.fail(fs.ErrClosed)
	}
	n, err := p.w.Write(b)
	if err != nil {
		err = p.fail(err)
	}
	return n, err
}

// Path flushes what was written and returns where it lies until Commit.
func (p *Pending) Path() (string, error) {
	if p.f == nil {
		return "", p.fail(fs.ErrClosed)
	}
	if err := p.w.Flush(); err != nil {
		return "", p.fail(err)
	}
	return p.f.Name(), nil
}

// Commit syncs the file and moves it to its target. On failure nothing is left.
func (p *Pending) Commit() error {
	if p.f == nil {
		return p.fail(fs.ErrClosed)
	}
	err := p.w.Flush()
	if err == nil {
		err = p.f.Sync()
	}
	if cerr := p.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(p.f.Name(), p.final)
	}
	if err != nil {
		os.Remove(p.f.Name())
		err = p.fail(err)
	}
	p.f = nil
	return err
}

// Beside opens a pending file for the external data of the model that p is for: the
// target's name with .data behind it, in the same folder. name is what it is called
// there.
func (p *Pending) Beside() (data *Pending, name string, err error) {
	data, err = CreatePending(p.final + ".data")
	return data, filepath.Base(p.final) + ".data", err
}

// CommitWith commits external data and then p, which refers to it. A model that is
// at the target goes before, when it might read the data that is to be replaced. On
// failure neither file is left.
func (p *Pending) CommitWith(data *Pending) error {
	if p.f == nil || data.f == nil {
		return p.fail(fs.ErrClosed)
	}
	defer p.Abort()
	if _, err := os.Lstat(data.final); err == nil {
		if err := os.Remove(p.final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			data.Abort()
			return p.fail(err)
		}
	}
	if err := data.Commit(); err != nil {
		return err
	}
	if err := p.Commit(); err != nil {
		return errors.Join(err, os.Remove(data.final))
	}
	return nil
}

// fail names the target; the temporary name in the system's error would only
// puzzle.
func (p *Pending) fail(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("cannot write %s: %w", p.target, err)
}

// Abort removes the pending file. After Commit it does nothing, so it can be
// deferred.
func (p *Pending) Abort() {
	if p.f != nil {
		p.f.Close()
		os.Remove(p.f.Name())
		p.f = nil
	}
}
