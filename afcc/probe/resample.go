package probe

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/inspect/engine"
)

// resampled is what the label means of repeated measurements make of a head.
type resampled struct {
	// runs holds the filters of each repeated measurement, without their ratios.
	runs [][]afcc.Filter
	// runMeans holds the label means (K x F x P) of the runs of one pass, runAcc
	// (runs x D) their sums for the label that is being read, runSum (runs x D)
	// those of a batch.
	runMeans [][]float32
	runAcc   []float64
	runSum   *engine.Tensor
}

// runBytes is what one repeated measurement of a head takes.
func (p *measurer) runBytes(h *head) int64 { return int64(h.d()) * (4*int64(p.k) + 12) }

// runsAtATime returns how many repeated measurements of a head are made in one
// pass: all, or as many as fit in half of the memory beside its weights and means.
func (p *measurer) runsAtATime(h *head) int {
	fit := (p.opt.Memory/2 - p.headBytes(h)) / p.runBytes(h)
	return int(min(int64(p.opt.Stability), max(1, fit)))
}

// runsInPasses returns the first run of each pass that a group of heads needs, and
// the end of the last; nothing when no repetition was asked for, but for one pass.
func (p *measurer) runsInPasses(heads []*head) []int {
	at := p.opt.Stability
	for _, h := range heads {
		at = min(at, p.runsAtATime(h))
	}
	bounds := []int{0}
	for r := 0; r < p.opt.Stability; {
		r = min(r+at, p.opt.Stability)
		bounds = append(bounds, r)
	}
	if len(bounds) == 1 {
		bounds = append(bounds, 0)
	}
	return bounds
}

// resampler says how often each sample of the statistics split counts in each
// repeated measurement.
//
// Two runs are the halves of each label's samples: these are put in a random order
// and one half gets the first of them; of an odd number either half, at random,
// gets one more. More runs are bootstrap resamples: as many draws with replacement
// as the label has samples. Draws depend on the seed, the label, the run, and the
// samples of the label in the split, but neither on batches nor on which files can
// be decoded: one that cannot drops out of the runs in which it counts.
type resampler struct {
	seed    uint64
	runs    int
	byLabel map[int][]int // samples of each label, in the order of the split
	label   int
	counts  map[int][]float32 // of the present label: sample, then run
}

// The streams of random numbers that repetitions use, distinct from those of heads
// and shuffles.
const (
	halvesStream    = 0x68616c766573 << 16
	bootstrapStream = 0x626f6f74 << 32
)

func newResampler(index []int, label func(sample int) int, runs int, seed uint64) *resampler {
	s := &resampler{seed: seed, runs: runs, byLabel: map[int][]int{}, label: -1}
	for _, i := range index {
		l := label(i)
		s.byLabel[l] = append(s.byLabel[l], i)
	}
	return s
}

// of returns how often a sample of a label counts in each run.
func (s *resampler) of(label, sample int) []float32 {
	if label != s.label {
		s.deal(label)
	}
	return s.counts[sample]
}

func (s *resampler) deal(label int) {
	samples := s.byLabel[label]
	n := len(samples)
	counts := make([]float32, n*s.runs)
	s.label, s.counts = label, make(map[int][]float32, n)
	for i, sample := range samples {
		s.counts[sample] = counts[i*s.runs : (i+1)*s.runs]
	}
	if s.runs == 2 {
		r := rand.New(rand.NewPCG(s.seed, halvesStream+uint64(label)))
		first := (n + r.IntN(2)) / 2
		for place, i := range r.Perm(n) {
			half := 0
			if place >= first {
				half = 1
			}
			counts[2*i+half] = 1
		}
		return
	}
	for run := range s.runs {
		r := rand.New(rand.NewPCG(s.seed, bootstrapStream+uint64(label)<<16+uint64(run)))
		for range n {
			counts[r.IntN(n)*s.runs+run]++
		}
	}
}

// analyseRuns finds the clusters of the runs whose label means are there, and lets
// go of these.
func (p *measurer) analyseRuns(ctx context.Context, h *head, first, end int) error {
	runs := p.loadRuns(h, first, end)
	for r, means := range h.runMeans {
		if r < len(runs) {
			continue
		}
		filters, err := afcc.AnalyzeLayer(ctx, h.w, means, p.k, h.tap.Filters, h.tap.Positions(), afcc.Options{Theta: p.opt.Theta})
		if err != nil {
			return fmt.Errorf("layer %s: %w", h.tap.Name(), err)
		}
		for i := range filters {
			filters[i].Ratios = nil
		}
		runs = append(runs, filters)
		if p.keep.due() || r+1 == len(h.runMeans) {
			if err := p.keep.put(partRuns, p.runsKey(h, first, end), runs); err != nil {
				return err
			}
		}
	}
	h.runs = append(h.runs, runs...)
	h.runMeans, h.runAcc, h.runSum = nil, nil, nil
	return nil
}
