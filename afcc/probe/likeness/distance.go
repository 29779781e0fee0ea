package likeness

import (
	"fmt"
	"math"
	"slices"

	"github.com/filterlens/filterlens/afcc/probe"
)

// A distance adds up how far apart the activations of a pair of taps are.
type distance struct {
	pair *probe.Pair
	a, b int // places of the taps among those of the two models
	// from and to are the filters compared; note says why there are none.
	from, to []int
	note     string

	aa, bb, ab, dd float64 // sums of products, dd of squared differences
	largest, most  float64 // of |a| and of |b-a|
	// odd tells that a number is not finite in one of the two, or in another way; bare
	// that some are in both.
	odd, bare bool
}

func newDistance(p *probe.Pair, tapsA, tapsB []*probe.Tap) (*distance, error) {
	d := &distance{pair: p, a: slices.Index(tapsA, p.A), b: slices.Index(tapsB, p.B)}
	if d.a < 0 || d.b < 0 {
		return nil, fmt.Errorf("%s and %s are paired, but not both are among the taps", p.A.Name(), p.B.Name())
	}
	if x, y := p.A, p.B; x.Height/x.Pool != y.Height/y.Pool || x.Width/x.Pool != y.Width/y.Pool {
		d.note = fmt.Sprintf("maps of %d x %d in A and %d x %d in B", x.Height/x.Pool, x.Width/x.Pool, y.Height/y.Pool, y.Width/y.Pool)
		return d, nil
	}
	for f := range p.A.Filters {
		q := f
		if p.Filters != nil {
			q = -1
			if f < len(p.Filters) {
				q = p.Filters[f]
			}
		}
		if q >= 0 && q < p.B.Filters {
			d.from, d.to = append(d.from, f), append(d.to, q)
		}
	}
	if len(d.from) == 0 {
		d.note = "none of the filters lives on"
	}
	return d, nil
}

// add takes the rows of samples of both taps.
func (d *distance) add(x, y []float32) {
	p := d.pair.A.Positions()
	da, db := d.pair.A.Filters*p, d.pair.B.Filters*p
	if len(d.from) == 0 {
		return
	}
	for ; len(x) > 0; x, y = x[da:], y[db:] {
		for i, f := range d.from {
			d.addMap(x[f*p:(f+1)*p], y[d.to[i]*p:(d.to[i]+1)*p])
		}
	}
}

func (d *distance) addMap(x, y []float32) {
	var aa, bb, ab, dd float64
	largest, most := d.largest, d.most
	for i, a := range x {
		a, b := float64(a), float64(y[i])
		diff := b - a
		if diff-diff != 0 { // one of them is not finite
			if a == b || a != a && b != b {
				d.bare = true
			} else {
				d.odd = true
			}
			continue
		}
		aa += a * a
		bb += b * b
		ab += a * b
		dd += diff * diff
		if a < 0 {
			a = -a
		}
		if diff < 0 {
			diff = -diff
		}
		if a > largest {
			largest = a
		}
		if diff > most {
			most = diff
		}
	}
	d.aa += aa
	d.bb += bb
	d.ab += ab
	d.dd += dd
	d.largest, d.most = largest, most
}

// layer says what was found.
func (d *distance) layer(tolerance float64) Layer {
	l := Layer{A: d.a, B: d.b, Filters: len(d.from), Assumed: d.pair.Assumed, Note: d.note}
	if l.Filters == 0 {
		return l
	}
	rel := math.Sqrt(d.dd) / math.Sqrt(d.aa)
	l.Parts = d.odd || d.dd > 0 && !(rel <= tolerance)
	switch {
	case d.odd || d.bare:
		l.Note = "activations that are not finite"
		return l
	case d.aa == 0 && d.bb == 0:
		l.RelL2, l.MaxRel, l.Note = new(float64), new(float64), "zero throughout"
		return l
	case d.aa == 0:
		l.Note = "zero throughout in A"
		return l
	case d.bb == 0:
		l.Note = "zero throughout in B"
	default:
		cosine := min(max(d.ab/math.Sqrt(d.aa)/math.Sqrt(d.bb), -1), 1)
		l.Cosine = &cosine
	}
	most := d.most / d.largest
	l.RelL2, l.MaxRel = &rel, &most
	return l
}
