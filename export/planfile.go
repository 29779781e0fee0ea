package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect"
)

// ErrNotPlan says that a file is no plan.
var ErrNotPlan = errors.New("not a plan; make one with prune MODEL --dry-run -o plan.json")

// maxPlan is the size of a plan file in bytes that is read at most: masks of more
// than a thousand million connections.
const maxPlan = 256 << 20

// A PlanError says that a plan cannot be used: it contradicts itself, or was made
// for another model.
type PlanError struct {
	// Model is the file that the plan is to be applied to, "" while it is read.
	Model string
	// Layer is the one that it is about, "" when it is about the whole plan.
	Layer  string
	Reason string
}

func (e *PlanError) Error() string {
	s := "plan: "
	if e.Model != "" {
		s = e.Model + ": the plan does not fit: "
	}
	if e.Layer != "" {
		s += fmt.Sprintf("layer %s: ", e.Layer)
	}
	return s + e.Reason
}

// ReadPlan reads a Plan that was written as JSON and checks that its parts fit each
// other. What is no plan gives ErrNotPlan, one that contradicts itself or is of
// another version a *PlanError.
func ReadPlan(r io.Reader) (*Plan, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPlan+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPlan {
		return nil, &PlanError{Reason: fmt.Sprintf("it has more than %d bytes", maxPlan)}
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w (%v)", ErrNotPlan, err)
	}
	switch head.Schema {
	case PlanSchema:
	case "filterlens.plan/1":
		return nil, &PlanError{Reason: "it is of version 1, which does not say which connections fall; make it anew with --dry-run"}
	case "":
		return nil, ErrNotPlan
	default:
		return nil, &PlanError{Reason: fmt.Sprintf("its schema is %q, not %q; it was made by another version, or is no plan", head.Schema, PlanSchema)}
	}
	p := &Plan{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, &PlanError{Reason: err.Error()}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// check tells whether the parts of a plan fit each other.
func (p *Plan) check() error {
	bad := func(layer, format string, a ...any) error {
		return &PlanError{Layer: layer, Reason: fmt.Sprintf(format, a...)}
	}
	if len(p.Layers) == 0 && len(p.Filters) == 0 {
		return bad("", "nothing falls by it")
	}
	if _, err := recoverySteps(p.Recover); err != nil {
		return bad("", "%v", err)
	}
	if p.RoundTo < 0 || p.Dense && len(p.Filters) > 0 {
		return bad("", "its options contradict each other")
	}
	seen, weights := map[string]bool{}, map[string]bool{}
	var connections, kept int
	var elements, dropped int64
	for i := range p.Layers {
		l := &p.Layers[i]
		if seen[l.Layer] || weights[l.Weight] {
			return bad(l.Layer, "it, or its weight, is there twice")
		}
		seen[l.Layer], weights[l.Weight] = true, true
		if l.Rows < 1 || l.Cols < 1 || l.Inner < 1 || l.Inner > math.MaxInt32 {
			return bad(l.Layer, "it has %d x %d connections of %d weights", l.Rows, l.Cols, l.Inner)
		}
		if hi, n := bits.Mul64(uint64(l.Rows), uint64(l.Cols)); hi != 0 || n > uint64(maxPlan)*8 || uint64(len(l.Mask)) != (n+7)/8 {
			return bad(l.Layer, "its mask has %d bytes for %d x %d connections", len(l.Mask), l.Rows, l.Cols)
		}
		if n := l.Rows * l.Cols; n%8 != 0 && l.Mask[n/8]>>(n%8) != 0 {
			return bad(l.Layer, "its mask has bits behind its last connection")
		}
		if err := afcc.CheckTheta(l.Theta); err != nil && !(l.Theta >= 1) {
			return bad(l.Layer, "%v", err)
		}
		q := *l
		q.count()
		if l.Connections != q.Connections || l.Kept != q.Kept || l.Dilution != q.Dilution || l.Elements != q.Elements || l.Dropped != q.Dropped || l.CutOutputs != q.CutOutputs || l.CutInputs != q.CutInputs {
			return bad(l.Layer, "its numbers are not those of its mask, which keeps %d of %d connections", q.Kept, q.Connections)
		}
		connections, kept = connections+l.Connections, kept+l.Kept
		elements, dropped = elements+l.Elements, dropped+l.Dropped
	}
	if connections != p.Connections || kept != p.Kept || elements != p.Elements || dropped != p.Dropped {
		return bad("", "its totals are not the sums over its layers")
	}
	clear(seen)
	for i := range p.Filters {
		f := &p.Filters[i]
		if seen[f.Layer] {
			return bad(f.Layer, "its filters are there twice")
		}
		seen[f.Layer] = true
		if f.Size < 1 || f.Kept < 1 || f.Kept+len(f.Removed) != f.Size || len(f.Scores) != 0 && len(f.Scores) != len(f.Removed) {
			return bad(f.Layer, "%d of %d filters are kept and %d removed", f.Kept, f.Size, len(f.Removed))
		}
		sorted := slices.Sorted(slices.Values(f.Removed))
		if len(sorted) > 0 && sorted[0] < 0 || len(slices.Compact(sorted)) != len(f.Removed) {
			return bad(f.Layer, "a removed filter is there twice, or has no number")
		}
	}
	return nil
}

// fit tells whether a plan whose parts fit each other fits m, of which sum is the
// hash.
func (p *Plan) fit(m *inspect.Model, sum string) error {
	bad := func(layer, format string, a ...any) error {
		return &PlanError{m.File, layer, fmt.Sprintf(format, a...)}
	}
	if sum != p.ModelSHA256 {
		return bad("", "it was made for another file, %s; make a new one with --dry-run", p.Model)
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		t, ok := stored(m, l)
		if !ok {
			return bad(l.Layer, "there is no such layer with the weight %q", l.Weight)
		}
		ml := layerNamed(m, l.Layer)
		lay, reason := weightLayout(ml, m.Graph.Nodes[ml.Node], t.Dims())
		if reason == "" && (lay.rows != l.Rows || lay.transposed != l.Transposed || lay.cols*lay.inner != l.Cols*l.Inner || ml.Op == "Conv" && lay.inner != l.Inner) {
			reason = fmt.Sprintf("its weight %q has shape %v", l.Weight, t.Dims())
		}
		if reason != "" {
			return bad(l.Layer, "%s", reason)
		}
	}
	for i := range p.Filters {
		if layerNamed(m, p.Filters[i].Layer) == nil {
			return bad(p.Filters[i].Layer, "there is no such layer")
		}
	}
	return nil
}

// summary returns a copy without masks.
func (p *Plan) summary() *Plan {
	q := *p
	q.Layers = slices.Clone(p.Layers)
	for i := range q.Layers {
		q.Layers[i].Mask = nil
	}
	return &q
}
