package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
)

// A Saved report is one that was written as JSON and read back.
type Saved struct {
	// Model is set when `inspect` wrote it, Stats when `inspect --data` did.
	Model *Model
	Stats *probe.Result
}

// A SavedError says why a file is no report that can be compared.
type SavedError struct {
	File, Reason string
	Err          error
}

func (e *SavedError) Error() string { return e.File + ": " + e.Reason }

func (e *SavedError) Unwrap() error { return e.Err }

// maxSaved bounds the bytes of a saved report.
const maxSaved = 1 << 30

// ReadSaved reads what `inspect` or `inspect --data` has written as JSON. name is
// that of the file for messages. What is no such report, holds several models or
// only a part of one is a *SavedError.
func ReadSaved(r io.Reader, name string) (*Saved, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSaved+1))
	if err != nil {
		return nil, err
	}
	refuse := func(format string, a ...any) (*Saved, error) {
		return nil, &SavedError{File: name, Reason: fmt.Sprintf(format, a...)}
	}
	if len(b) > maxSaved {
		return refuse("larger than the %s that a saved report may have", Bytes(maxSaved).Text)
	}
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return refuse("a list of models; save the one to compare with inspect MODEL -o FILE.json")
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, &SavedError{File: name, Reason: "neither an ONNX model nor a report that inspect has saved: " + jsonReason(err), Err: err}
	}
	switch head.Schema {
	case probe.Schema:
		res, err := probe.ReadResult(bytes.NewReader(b))
		if err != nil {
			return nil, &SavedError{File: name, Reason: err.Error(), Err: err}
		}
		return &Saved{Stats: res}, nil
	case ModelSchema:
	default:
		return refuse("not a report that can be compared (schema %q; %s of inspect and %s of inspect --data can)", head.Schema, ModelSchema, probe.Schema)
	}
	var m Model
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, &SavedError{File: name, Reason: "not a whole report of inspect: " + jsonReason(err), Err: err}
	}
	if m.Model == nil {
		return refuse("not a whole report of inspect: it describes no model")
	}
	if reason := m.unlikely(); reason != "" {
		return refuse("not a whole report of inspect: %s", reason)
	}
	if n := len(m.Layers); n < m.Totals.Layers {
		how := ""
		if s := m.Selection; s != nil {
			switch {
			case s.Filter != "":
				how = fmt.Sprintf(" (--filter %s)", s.Filter)
			case s.Top > 0:
				how = fmt.Sprintf(" (--top %d)", s.Top)
			}
		}
		return refuse("holds %d of %d layers%s; save the whole with inspect MODEL -o FILE.json", n, m.Totals.Layers, how)
	}
	return &Saved{Model: &m}, nil
}

// unlikely says what inspect would never have written, "" for nothing.
func (m *Model) unlikely() string {
	negative := func(what string, v int64) string {
		if v < 0 {
			return fmt.Sprintf("%s of %d", what, v)
		}
		return ""
	}
	for _, s := range []string{negative("a size", m.FileBytes), negative("a size", m.ExternalBytes), negative("a number of parameters", m.Totals.Parameters), negative("a number of layers", int64(m.Totals.Layers))} {
		if s != "" {
			return s
		}
	}
	if m.Totals.MACs != nil && *m.Totals.MACs < 0 {
		return fmt.Sprintf("MACs of %d", *m.Totals.MACs)
	}
	if len(m.Layers) > m.Totals.Layers {
		return fmt.Sprintf("%d layers, of which its totals know %d", len(m.Layers), m.Totals.Layers)
	}
	return ""
}

// jsonReason says in one line what is wrong with JSON.
func jsonReason(err error) string {
	var se *json.SyntaxError
	var te *json.UnmarshalTypeError
	switch {
	case errors.As(err, &se):
		return fmt.Sprintf("%s at byte %d", strings.TrimPrefix(se.Error(), "json: "), se.Offset)
	case errors.As(err, &te):
		return fmt.Sprintf("%s holds a %s at byte %d", te.Field, te.Value, te.Offset)
	}
	return err.Error()
}
