// Package likeness compares what two models compute inside for the same samples:
// how far apart the activations of their corresponding layers are, and how similar
// each layer of one is to each layer of the other.
//
// It knows taps, engines and samples. How models are matched, what filters
// recognise, and how a result looks do not enter.
package likeness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
)

// Likeness says how alike the layers of two models are.
type Likeness struct {
	// Samples counts those that were run, SHA256 is of their names and labels.
	Samples int    `json:"samples"`
	SHA256  string `json:"sha256"`
	// Note says what too few samples leave out, "" when they are enough: CKA needs two,
	// the debiased one four.
	Note string `json:"note,omitempty"`
	// Tolerance is the relative L2 distance above which activations part.
	Tolerance float64 `json:"tolerance"`
	// Layers has the taps of A that have a counterpart in B, in file order.
	Layers []Layer `json:"layers"`
	// Parting is the index in Layers of the first whose activations part, nil when
	// none does.
	Parting *int `json:"parting"`
	// A and B name the rows and columns of CKA: the taps of both models.
	A []Tap `json:"a"`
	B []Tap `json:"b"`
	// CKA is the linear centred kernel alignment of each tap of A with each of B
	// (Kornblith et al., "Similarity of Neural Network Representations Revisited",
	// ICML 2019), from 0 to 1: ||X'Y||^2 / (||X'X|| ||Y'Y||) in Frobenius norms, where
	// the columns of X and Y, samples by F*P features, have mean zero. Debiased is that
	// with the unbiased estimate of HSIC (Song et al., "Feature Selection via Dependence
	// Maximization", JMLR 2012; for CKA, Nguyen et al., "Do Wide and Deep Networks Learn
	// the Same Things?", ICLR 2021), which does not grow with the number of features and
	// may be below 0. Both are nil where one of the two is constant over the samples, or
	// not finite, or there are too few samples; Debiased also where a tap sets apart no
	// more than one sample from the others.
	CKA      [][]*float64 `json:"cka"`
	Debiased [][]*float64 `json:"cka_debiased"`
}

// A Tap names a tensor.
type Tap struct {
	// Layer is the name of the first layer that ends in it, Op its operator.
	Layer  string `json:"layer"`
	Op     string `json:"op"`
	Tensor string `json:"tensor"`
	// Filters, Height and Width are its shape.
	Filters int `json:"filter_count"`
	Height  int `json:"height"`
	Width   int `json:"width"`
	// Pool is the side of the windows over which maps were averaged first, 0 where they
	// were taken as they are.
	Pool int `json:"pool,omitempty"`
	// Constant says that it is the same for all samples, to the rounding of float32;
	// NotFinite that it has NaN or infinite numbers.
	Constant  bool `json:"constant,omitempty"`
	NotFinite bool `json:"not_finite,omitempty"`
}

// A Layer says how far the activations of two corresponding taps are apart.
type Layer struct {
	// A and B are indices in Likeness.A and Likeness.B.
	A int `json:"a"`
	B int `json:"b"`
	// Filters counts those compared: the ones of A that have a place in B. Assumed says
	// that the places of some are taken to be the same (probe.Pair.Assumed).
	Filters int  `json:"filters_compared"`
	Assumed bool `json:"places_assumed,omitempty"`
	// RelL2 is ||b-a|| / ||a|| over all samples, filters and positions, MaxRel the
	// largest |b-a| by the largest |a|, Cosine a.b/(||a|| ||b||); nil where they
	// are not defined, or nothing was compared, for the reason in Note.
	RelL2  *float64 `json:"rel_l2"`
	MaxRel *float64 `json:"max_rel"`
	Cosine *float64 `json:"cosine"`
	// Parts says that RelL2 is above the tolerance; where it is not defined, that one
	// of the two has numbers other than zero, or such as are not finite, where the
	// other has not.
	Parts bool   `json:"parts"`
	Note  string `json:"note,omitempty"`
	// CKA and Debiased are those of the two taps.
	CKA      *float64 `json:"cka"`
	Debiased *float64 `json:"cka_debiased"`
}

// Options steers Measure. The zero value of a field means its default.
type Options struct {
	// PreprocessA and PreprocessB say how samples enter the two models.
	PreprocessA, PreprocessB dataset.Preprocess
	// Samples is how many are run at most, DefaultSamples when zero; as many of each
	// label as can be, drawn by Seed.
	Samples int
	Seed    uint64
	// Batch is the largest number of samples run at once, 0 means 100, or as many as
	// have activations of a quarter of Memory.
	Batch int
	// Memory bounds the bytes held for features, inner products and activations; 0 means
	// probe.DefaultMemory. The models themselves and the runtime's buffers come on top.
	// Where it is too small for the features of all taps at once, taps, or parts of
	// them, are taken in several passes through the models.
	Memory int64
	// Tolerance is the relative L2 distance above which activations part,
	// DefaultTolerance when zero.
	Tolerance float64
	// Progress is told what is being done and how far it is; it must be quick.
	Progress func(stage string, done, total int)
}

// The defaults of Options.
const (
	DefaultSamples   = 512
	DefaultTolerance = 1e-3
)

// TooManyError says that the inner products of all samples do not fit in memory.
type TooManyError struct {
	Samples, Taps  int
	Needed, Memory int64
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("the inner products of %d samples for %d layers take %d MB, more than half of the %d MB allowed; take fewer samples or layers, or allow more memory",
		e.Samples, e.Taps, e.Needed>>20, e.Memory>>20)
}

func (opt *Options) complete() error {
	if opt.Samples == 0 {
		opt.Samples = DefaultSamples
	}
	if opt.Tolerance == 0 {
		opt.Tolerance = DefaultTolerance
	}
	if opt.Memory == 0 {
		opt.Memory = probe.DefaultMemory
	}
	if opt.Batch == 0 {
		opt.Batch = 100
	}
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	switch {
	case opt.Samples < 1:
		return fmt.Errorf("%d samples: it must be one at least", opt.Samples)
	case !(opt.Tolerance > 0 && opt.Tolerance <= math.MaxFloat64):
		return fmt.Errorf("tolerance %v: it must be a finite number above zero", opt.Tolerance)
	case opt.Memory < 0:
		return fmt.Errorf("memory of %d bytes", opt.Memory)
	case opt.Batch < 0:
		return fmt.Errorf("batches of %d samples", opt.Batch)
	}
	return nil
}

// Measure runs both models over the same samples, chosen from index of set, and
// compares what the taps hand on: pairs by distance, tapsA with tapsB by similarity.
// Taps are those of probe.NewSurvey or probe.Survey.Choose of the two models, pairs of
// probe.PairTaps; each tap of a pair must be among them. Maps are taken as they are
// unless Tap.Pool of a tap is above 1.
//
// Features are centred in double precision and multiplied in single precision by the
// engine, as many as 2,048 at a time, and these products are added up in double
// precision.
//
// The error is a *TooManyError, or one of probe.Activations.
func Measure(ctx context.Context, eng engine.Engine, a, b *inspect.Model, tapsA, tapsB []*probe.Tap, pairs []probe.Pair, set *dataset.Set, index []int, opt Options) (*Likeness, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if len(tapsA) == 0 || len(tapsB) == 0 {
		return nil, errors.New("no layers to compare")
	}
	index = choose(set, index, opt.Samples, opt.Seed)
	if len(index) == 0 {
		return nil, dataset.ErrEmpty
	}
	r := &run{eng: eng, set: set, index: index, opt: opt}
	r.sides[0] = side{m: a, taps: tapsA, pre: opt.PreprocessA}
	r.sides[1] = side{m: b, taps: tapsB, pre: opt.PreprocessB}
	for i := range pairs {
		d, err := newDistance(&pairs[i], tapsA, tapsB)
		if err != nil {
			return nil, err
		}
		r.distances = append(r.distances, d)
	}
	slices.SortStableFunc(r.distances, func(x, y *distance) int { return x.a - y.a })
	passes, err := r.plan()
	if err != nil {
		return nil, err
	}
	for i := range passes {
		stage := "comparing activations"
		if len(passes) > 1 {
			stage = fmt.Sprintf("comparing activations, pass %d of %d", i+1, len(passes))
		}
		if err := r.pass(ctx, stage, &passes[i], i == 0); err != nil {
			return nil, err
		}
	}
	return r.result(), nil
}

// result sums up what the passes gathered.
func (r *run) result() *Likeness {
	l := &Likeness{Samples: len(r.ran), SHA256: hashOf(r.set, r.ran), Tolerance: r.opt.Tolerance, Layers: []Layer{}}
	switch n := len(r.ran); {
	case n < 2:
		l.Note = "one sample: similarity needs two, the debiased one four"
	case n < 4:
		l.Note = fmt.Sprintf("%d samples: debiased similarity needs four", n)
	}
	for s, list := range []*[]Tap{&l.A, &l.B} {
		*list = make([]Tap, len(r.sides[s].taps))
		for i, t := range r.sides[s].taps {
			k := r.sides[s].kernels[i]
			x := Tap{Layer: t.Name(), Op: t.Op, Tensor: t.Tensor, Filters: t.Filters, Height: t.Height, Width: t.Width,
				Constant: len(r.ran) > 1 && k.constant(), NotFinite: k.notFinite}
			if t.Pool > 1 {
				x.Pool = t.Pool
			}
			(*list)[i] = x
		}
	}
	l.CKA, l.Debiased = alignments(r.sides[0].kernels, r.sides[1].kernels)
	for _, d := range r.distances {
		x := d.layer(r.opt.Tolerance)
		x.CKA, x.Debiased = l.CKA[d.a][d.b], l.Debiased[d.a][d.b]
		if x.Parts && l.Parting == nil {
			at := len(l.Layers)
			l.Parting = &at
		}
		l.Layers = append(l.Layers, x)
	}
	return l
}

// hashOf returns the SHA-256 of the names and labels of samples, in the order of the
// names, as dataset.Split.Hash is.
func hashOf(set *dataset.Set, index []int) string {
	lines := make([]string, len(index))
	for k, i := range index {
		lines[k] = set.ID(i) + "\x00" + strconv.Itoa(set.Label(i)) + "\n"
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		io.WriteString(h, l)
	}
	return hex.EncodeToString(h.Sum(nil))
}
