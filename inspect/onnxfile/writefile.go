package onnxfile

import "errors"

// ErrSource: a model would be written over a file that its data is read from.
var ErrSource = errors.New("the model is read from it; write to another path")

// WriteFile writes the model to path as a whole: when it fails, nothing there
// has changed (see Pending). A path that is one of the files that d was made
// from is refused with ErrSource. External data stays where it is, and must lie
// in the folder of path or below, unless InlineExternal was called.
func (d *Draft) WriteFile(path string) error {
	p := &Pending{target: path}
	if d.src != nil && d.src.SameFile(path) {
		return p.fail(ErrSource)
	}
	p, err := CreatePending(path)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := d.WriteTo(p); err != nil {
		return err
	}
	return p.Commit()
}
