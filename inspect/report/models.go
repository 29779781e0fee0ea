package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// A Summary is what one line says of a model among many.
type Summary struct {
	File string
	// Err says why the file cannot be read; nothing else is set then.
	Err        string
	Bytes      int64 // of the file and of external data
	IRVersion  int64
	Opset      string
	Totals     inspect.Totals
	Errors     int // findings of each level, when a check was made
	Warnings   int
	FoundCodes []string // each code found, with how often if more than once
}

// Summarize returns the line of a model. findings are those of a check, nil when
// none was made.
func Summarize(m *inspect.Model, findings []inspect.Finding) Summary {
	s := Summary{File: m.File, Bytes: plus(m.FileBytes, m.ExternalBytes), IRVersion: m.IRVersion, Opset: opsets(m), Totals: m.Totals}
	count := map[string]int{}
	var codes []string
	for _, f := range findings {
		if f.Level == "error" {
			s.Errors++
		} else {
			s.Warnings++
		}
		if count[f.Code]++; count[f.Code] == 1 {
			codes = append(codes, f.Code)
		}
	}
	for _, c := range codes {
		if n := count[c]; n > 1 {
			c += " x" + strconv.Itoa(n)
		}
		s.FoundCodes = append(s.FoundCodes, c)
	}
	return s
}

// FromSummaries shows many models, a row each. checked says that a check was
// made.
func FromSummaries(list []Summary, checked bool) Document {
	t := &Table{Main: true, Columns: []Column{
		{Title: "file", Key: "file", Shrink: true},
		{Title: "size", Key: "bytes", Right: true, Drop: 1},
		{Title: "IR", Key: "ir_version", Right: true, Drop: 9},
		{Title: "opset", Key: "opset", Shrink: true, Drop: 8},
		{Title: "nodes", Key: "nodes", Right: true, Drop: 7},
		{Title: "layers", Key: "layers", Right: true, Drop: 6},
		{Title: "parameters", Key: "parameters", Right: true, Drop: 2},
		{Key: "parameters_unknown", Hidden: true},
		{Title: "MACs", Key: "macs", Right: true, Drop: 3},
		{Key: "macs_unknown", Hidden: true},
		{Title: "peak memory", Key: "peak_activation_bytes", Right: true, Drop: 5},
		{Key: "activations_unknown", Hidden: true},
		{Title: "zeros", Key: "zeros", Right: true, Sparse: true, Drop: 10},
	}}
	if checked {
		t.Columns = append(t.Columns,
			Column{Title: "errors", Key: "errors", Right: true}, Column{Title: "warnings", Key: "warnings", Right: true},
			Column{Title: "findings", Key: "findings", Sparse: true, Shrink: true, Drop: 4})
	}
	t.Columns = append(t.Columns, Column{Title: "not read", Key: "error", Sparse: true, Wrap: true})
	read := 0
	unknown := false
	for _, s := range list {
		row := make([]Cell, len(t.Columns))
		row[0] = Words(s.File)
		t.Rows = append(t.Rows, row)
		if s.Err != "" {
			row[len(row)-1] = Cell{Text: s.Err, Raw: s.Err, Tone: Removed}
			continue
		}
		read++
		x := s.Totals
		macs := macsOf(Sum{MACs: x.MACs, MACsUnknown: x.MACsUnknown})
		peak := atLeast(optional(x.PeakActivationBytes, Bytes, absent), x.ActivationsUnknown)
		unknown = unknown || x.MACsUnknown > 0 || x.ActivationsUnknown > 0 || x.ParametersUnknown > 0
		ir := absent
		if s.IRVersion > 0 {
			ir = Cell{Text: strconv.FormatInt(s.IRVersion, 10), Raw: s.IRVersion}
		}
		copy(row[1:], []Cell{Bytes(s.Bytes), ir, Words(s.Opset), Count(int64(x.Nodes)), Count(int64(x.Layers)),
			atLeast(Count(x.Parameters), x.ParametersUnknown), Count(int64(x.ParametersUnknown)), macs, Count(int64(x.MACsUnknown)), peak, Count(int64(x.ActivationsUnknown)),
			optional(x.Zeros, Share, none)})
		if checked {
			errors, warnings := Count(int64(s.Errors)), Count(int64(s.Warnings))
			if s.Errors > 0 {
				errors.Tone = Removed
			}
			if s.Warnings > 0 {
				warnings.Tone = Changed
			}
			copy(row[13:], []Cell{errors, warnings, Words(strings.Join(s.FoundCodes, ", "))})
		}
	}
	sec := Section{Table: t}
	count := plural(len(list), "model")
	if read < len(list) {
		count += fmt.Sprintf(", %s read, %s not", grouped(int64(read)), grouped(int64(len(list)-read)))
	}
	sec.Notes = append(sec.Notes, count+"; --full reports on each")
	sec.Notes = append(sec.Notes, "MACs, peak memory: multiply-accumulates, and the most bytes of activations that are alive at once; batch 1 where the model leaves the batch open")
	if unknown {
		sec.Notes = append(sec.Notes, ">=: what is unknown of some nodes and tensors is left out")
	}
	return Document{Sections: []Section{sec}}
}

// opsets lists the operator sets that a model imports.
func opsets(m *inspect.Model) string {
	names := make([]string, len(m.Opsets))
	for i, o := range m.Opsets {
		names[i] = fmt.Sprintf("%s %d", cmp.Or(o.Domain, "ai.onnx"), o.Version)
	}
	return cmp.Or(strings.Join(names, ", "), "unknown")
}
