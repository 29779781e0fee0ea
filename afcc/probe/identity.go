package probe

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Method is the version of what is computed. It changes when the same inputs give
// other numbers than before, so that results of both are not taken for each other.
const Method = 2

// Identity is all that decides the numbers of a Result: two measurements with equal
// identities differ by rounding at most, and on one machine with the same
// Options.Memory and Options.Batch not at all. Memory, batch, threads and file names
// are therefore not in it; that memory was short shows in the pooling of a tap.
type Identity struct {
	Schema string
	Method int
	// ModelSHA256 covers external data. Input is the shape of one sample as it is
	// run, [C, H, W] or [H, W, C].
	ModelSHA256 string
	Input       []int64
	// Engine, EngineVersion and Provider say what runs the graphs.
	Engine, EngineVersion, Provider string
	// Preprocess is what is done to an image, as dataset.ParsePreprocess reads it.
	Preprocess string
	// Labels are the names of the labels; Format and Samples are of the data set,
	// for a sample's number in it depends on them.
	Labels  []string
	Format  string
	Samples int
	// Fit, Stats and Eval are digests of the splits, content included
	// (dataset.Set.Digest). Fit is "" when no head is trained.
	Fit, Stats, Eval string
	Seed             uint64
	Recipe           Recipe // with the number of epochs chosen
	Theta            float64
	Asked            Asked
	Taps             []TapIdentity
}

// Asked says which further statistics are wanted: what Options says under the same
// names, thresholds ascending.
type Asked struct {
	Thetas    []float64 `json:"thetas,omitempty"`
	Stability int       `json:"stability,omitempty"`
	Orders    int       `json:"orders,omitempty"`
	Confusion bool      `json:"confusion,omitempty"`
	Single    bool      `json:"single,omitempty"`
	Top       int       `json:"top,omitempty"`
}

// TapIdentity is a tap as it is measured: its tensor, the side of the pooling
// behind it, and whether the model's classifier is its head.
type TapIdentity struct {
	Tensor string
	Pool   int
	Own    bool
}

// Identify returns the identity of what Measure would give for the same arguments,
// and runs nothing. It reads the model and every sample of the splits once; errors
// are those of Measure. engine.Engine.Load is not called.
func Identify(ctx context.Context, eng engine.Engine, m *inspect.Model, set *dataset.Set, opt Options) (*Identity, error) {
	p, _, groups, err := prepare(m, set, opt)
	if err != nil {
		return nil, err
	}
	p.eng = eng
	return p.identify(ctx, slices.Concat(groups...))
}

func (p *measurer) identify(ctx context.Context, heads []*head) (*Identity, error) {
	id := &Identity{
		Schema: Schema, Method: Method, Input: p.dims,
		Engine: p.eng.Name(), EngineVersion: p.eng.Version(), Provider: p.eng.Provider(),
		Preprocess: p.opt.Preprocess.String(), Labels: p.set.Labels(), Format: p.set.Format(), Samples: p.set.Len(),
		Seed: p.opt.Split.Seed, Recipe: p.opt.Recipe, Theta: p.opt.Theta, Asked: p.opt.asked(),
	}
	trains := false
	for _, h := range heads {
		id.Taps = append(id.Taps, TapIdentity{h.tap.Tensor, h.tap.Pool, h.own})
		trains = trains || !h.own
	}
	var err error
	if id.ModelSHA256, err = p.m.Handle.SHA256(ctx); err != nil {
		return nil, err
	}
	splits := []struct {
		split dataset.Split
		to    *string
	}{{p.fit, &id.Fit}, {p.stats, &id.Stats}, {p.eval, &id.Eval}}
	if !trains {
		splits = splits[1:]
	}
	total, done := 0, 0
	for _, s := range splits {
		total += len(s.split.Index)
	}
	for _, s := range splits {
		*s.to, err = p.set.Digest(ctx, s.split.Index, func(n int) { p.opt.Progress("comparing samples", done+n, total) })
		if err != nil {
			return nil, err
		}
		done += len(s.split.Index)
	}
	return id, nil
}

func (o Options) asked() Asked {
	return Asked{Thetas: o.Thetas, Stability: o.Stability, Orders: o.Orders, Confusion: o.Confusion, Single: o.Single, Top: o.Top}
}

// Identity returns the identity of a measurement that was made, also of one that
// was read back. Files of versions that did not keep all of it give one that no
// measurement has.
func (r *Result) Identity() *Identity {
	id := &Identity{
		Schema: r.Schema, Method: r.Method, ModelSHA256: r.ModelSHA256, Input: r.Input,
		Engine: r.Engine, EngineVersion: r.EngineVersion, Provider: r.Provider,
		Preprocess: r.Data.Preprocess, Labels: r.Data.Labels, Format: r.Data.Format, Samples: r.Data.Samples,
		Fit: r.Data.Fit.Content, Stats: r.Data.Stats.Content, Eval: r.Data.Eval.Content,
		Seed: r.Seed, Recipe: r.Recipe, Theta: r.Theta, Asked: r.Asked,
	}
	for _, l := range r.Layers {
		id.Taps = append(id.Taps, TapIdentity{l.Tensor, l.Pool, l.Own})
	}
	return id
}

// Answers tells whether a measurement of identity id would give r again; if not,
// why says in a few words what is different: "the model is another".
func (r *Result) Answers(id *Identity) (ok bool, why string) {
	have := r.Identity()
	differs := func(what string, have, want any) bool {
		if reflect.DeepEqual(have, want) {
			return false
		}
		why = fmt.Sprintf("%s: %v, now %v", what, have, want)
		return true
	}
	says := func(what string, other bool) bool {
		if other {
			why = what
		}
		return other
	}
	texts := func(list []string) []string {
		out := make([]string, len(list))
		for i, s := range list {
			out[i] = kept(s)
		}
		return out
	}
	taps := func(list []TapIdentity) []TapIdentity {
		out := slices.Clone(list)
		for i := range out {
			out[i].Tensor = kept(out[i].Tensor)
		}
		return out
	}
	switch {
	case says("it was measured by another version of filterlens", have.Schema != id.Schema || have.Method != id.Method):
	case says("the model is another", have.ModelSHA256 != id.ModelSHA256):
	case differs("the model's input", have.Input, id.Input):
	case differs("the engine", have.Engine+" "+have.EngineVersion, id.Engine+" "+id.EngineVersion):
	case differs("the provider", have.Provider, id.Provider):
	case differs("the preprocessing", have.Preprocess, id.Preprocess):
	case says("the labels are others", !slices.Equal(texts(have.Labels), texts(id.Labels))):
	case differs("the format of the data", have.Format, id.Format):
	case differs("the number of samples", have.Samples, id.Samples):
	case differs("the seed", have.Seed, id.Seed):
	case says("the samples that heads are trained on are others", have.Fit != id.Fit):
	case says("the samples measured are others", have.Stats != id.Stats):
	case says("the samples judged are others", have.Eval != id.Eval):
	case says(fmt.Sprintf("heads were trained in another way: %+v, now %+v", have.Recipe, id.Recipe), have.Recipe != id.Recipe):
	case differs("theta", have.Theta, id.Theta):
	case says("other layers are measured", !slices.Equal(taps(have.Taps), taps(id.Taps))):
	case !slices.Equal(have.Asked.Thetas, id.Asked.Thetas):
		why = fmt.Sprintf("thresholds swept: %v, now %v", have.Asked.Thetas, id.Asked.Thetas)
	case differs("repeated measurements", have.Asked.Stability, id.Asked.Stability):
	case differs("label orders", have.Asked.Orders, id.Asked.Orders):
	case differs("top samples", have.Asked.Top, id.Asked.Top):
	case says("other statistics are asked for", have.Asked.Confusion != id.Asked.Confusion || have.Asked.Single != id.Asked.Single):
	default:
		return true, ""
	}
	return false, why
}

// kept returns a name as it comes back from JSON.
func kept(name string) string { return string([]rune(name)) }

// number returns the number of a tap's head, from which its first weights are
// drawn. It does not depend on which other taps are measured.
func (s *Survey) number(t *Tap) uint64 {
	if i := slices.IndexFunc(s.Taps, func(u *Tap) bool { return u.Tensor == t.Tensor }); i >= 0 {
		return uint64(i)
	}
	// FNV-1a of the name, in the upper half.
	h := uint64(14695981039346656037)
	for _, c := range []byte(t.Tensor) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h | 1<<63
}
