package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// A temporary is a model in a file beside the target.
type temporary struct {
	pending *onnxfile.Pending
	// data holds the numbers of a model of more than 2 GB, else nil; they are to lie in
	// a file called name.
	data *onnxfile.Pending
	name string
	m    *inspect.Model
}

// write puts a draft into a temporary file and opens it again, with the shapes that
// the original was opened with.
func (p *pipeline) write(ctx context.Context, d *onnxfile.Draft) (*temporary, error) {
	pending, err := onnxfile.CreatePending(p.target)
	if err != nil {
		return nil, err
	}
	t := &temporary{pending: pending}
	p.files = append(p.files, t)
	failed := func(err error) (*temporary, error) {
		return nil, fmt.Errorf("cannot write %s: %w", orStandard(p.target), err)
	}
	size, err := d.Size()
	if errors.Is(err, onnxfile.ErrTooLarge) || p.opt.oneFile > 0 && size > p.opt.oneFile {
		if t.data, t.name, err = pending.Beside(); err != nil {
			return nil, err
		}
		path, err := t.data.Path()
		if err != nil {
			return nil, err
		}
		content, err := d.PutBeside(filepath.Base(path))
		if err != nil {
			return failed(err)
		}
		if _, err := content.WriteTo(patient{ctx, t.data}); err != nil {
			return failed(err)
		}
		if _, err := t.data.Path(); err != nil { // what is still to be written is
			return nil, err
		}
	}
	if _, err := d.WriteTo(patient{ctx, pending}); err != nil {
		return failed(err)
	}
	path, err := pending.Path()
	if err != nil {
		return nil, err
	}
	t.m, err = inspect.Open(ctx, path, p.m.Options)
	return t, err
}

// place copies a model that was read from a stream to a temporary file, for engines
// take their models from files.
func (p *pipeline) place(ctx context.Context) error {
	if p.m.Handle.DataDir() != "" {
		return nil
	}
	pending, err := onnxfile.CreatePending(p.target)
	if err != nil {
		return err
	}
	t := &temporary{pending: pending}
	p.files = append(p.files, t)
	if err := p.m.Handle.Copy(patient{ctx, pending}); err != nil {
		return err
	}
	path, err := pending.Path()
	if err != nil {
		return err
	}
	if t.m, err = inspect.Open(ctx, path, p.m.Options); err == nil {
		p.m = t.m
	}
	return err
}

// patient is a writer that stops when its context ends.
type patient struct {
	ctx context.Context
	w   io.Writer
}

func (p patient) Write(b []byte) (int, error) {
	if err := context.Cause(p.ctx); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// close removes whatever was not committed.
func (p *pipeline) close() {
	for _, t := range p.files {
		p.drop(t)
	}
}

func (p *pipeline) drop(t *temporary) {
	if t.m != nil {
		t.m.Close()
	}
	t.pending.Abort()
	if t.data != nil {
		t.data.Abort()
	}
}

// copyTo writes the model to w.
func (t *temporary) copyTo(w io.Writer) error {
	if t.data != nil {
		return &OptionError{fmt.Sprintf("%v: it cannot go to standard output; give -o OUT.onnx, beside which its numbers are put", onnxfile.ErrTooLarge)}
	}
	path, err := t.pending.Path()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// commit moves the model to target, beside which it lies. One whose numbers lie in a
// file of their own is written again, with that file's name in it.
func (t *temporary) commit(target string) error {
	if t.data == nil {
		t.m.Close()
		return t.pending.Commit()
	}
	d, err := t.relocated()
	if err != nil {
		return err
	}
	final, err := onnxfile.CreatePending(target)
	if err != nil {
		return err
	}
	defer final.Abort()
	if _, err := d.WriteTo(final); err != nil {
		return fmt.Errorf("cannot write %s: %w", target, err)
	}
	t.m.Close()
	return final.CommitWith(t.data)
}

// relocated is a model of two files as it will refer to the second.
func (t *temporary) relocated() (*onnxfile.Draft, error) {
	path, err := t.data.Path()
	if err != nil {
		return nil, err
	}
	d := t.m.Handle.Draft()
	d.Relocate(filepath.Base(path), t.name)
	return d, nil
}

// bytes is the size of the model when it is committed, its data included.
func (t *temporary) bytes() (int64, error) {
	if t.data == nil {
		return t.m.FileBytes + t.m.ExternalBytes, nil
	}
	d, err := t.relocated()
	if err != nil {
		return 0, err
	}
	n, err := d.Size()
	return n + t.m.ExternalBytes, err
}
