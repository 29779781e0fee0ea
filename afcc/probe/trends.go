package probe

import (
	"cmp"
	"math"
	"slices"
)

// Trends says how far the layers of a Result show what arXiv:2309.07537 reports of
// VGG-16 and EfficientNet-B0: that the accuracy of the heads and the signal-to-noise
// ratio rise with depth.
type Trends struct {
	Accuracy, SNR Trend
}

// A Trend is how a quantity changes with the depth of the layers. Depth is the
// place in Result.Layers, the order in which layers run; taps inside a layer
// (Tap.Inner) are left out, and so are layers where the quantity is unknown.
type Trend struct {
	// Layers are the places in Result.Layers of the layers that count, ascending.
	Layers []int
	// Rho is Spearman's rank correlation of the quantity with depth: 1 where it
	// rises at every step, -1 where it falls at every one,
	//
	//	rho = cov(r, s) / (sd(r) sd(s))
	//
	// with r the places of the layers and s the ranks of the quantity, equal values
	// having the mean of their ranks (C. Spearman, The American Journal of
	// Psychology 15, 1904). It is nil for fewer than two layers, and where all
	// values are equal. Of few layers it says little: three in random order give
	// 1 once in six.
	Rho *float64
	// Against are the steps from one of these layers to the next at which the
	// quantity falls, in order.
	Against []Step
}

// A Step leads from a layer to the next that counts.
type Step struct {
	// From and To are places in Result.Layers, Before and After the quantity
	// there.
	From, To      int
	Before, After float64
	// Within tells, of accuracies only, that the fall is at most two standard
	// errors of the difference of two shares p, q of n evaluation samples,
	//
	//	2 sqrt(p (1-p)/n + q (1-q)/n),
	//
	// so that another draw of samples may well show none. Both are judged on the
	// same samples, which makes the true error smaller if anything.
	Within bool
}

// Trends compares the layers of r with each other.
func (r *Result) Trends() Trends {
	n := float64(r.Data.Eval.Samples)
	t := Trends{
		Accuracy: r.trend(func(l *Layer) *float64 { return &l.Accuracy }),
		SNR:      r.trend(func(l *Layer) *float64 { return l.Stats.SNR }),
	}
	for i := range t.Accuracy.Against {
		s := &t.Accuracy.Against[i]
		variance := s.Before*(1-s.Before) + s.After*(1-s.After)
		s.Within = n > 0 && s.Before-s.After <= 2*math.Sqrt(variance/n)
	}
	return t
}

func (r *Result) trend(of func(*Layer) *float64) Trend {
	var t Trend
	var values []float64
	for i := range r.Layers {
		l := &r.Layers[i]
		v := of(l)
		if l.Inner || v == nil {
			continue
		}
		if n := len(values); n > 0 && *v < values[n-1] {
			t.Against = append(t.Against, Step{From: t.Layers[n-1], To: i, Before: values[n-1], After: *v})
		}
		t.Layers, values = append(t.Layers, i), append(values, *v)
	}
	t.Rho = spearman(values)
	return t
}

// spearman returns the rank correlation of values with their places, nil where it
// is not defined.
func spearman(values []float64) *float64 {
	n := len(values)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	middle := float64(n-1) / 2
	var cross, ranks, places float64
	for i := 0; i < n; {
		end := i + 1
		for end < n && values[order[end]] == values[order[i]] {
			end++
		}
		rank := float64(i+end-1)/2 - middle
		for _, place := range order[i:end] {
			cross += rank * (float64(place) - middle)
			ranks += rank * rank
			places += (float64(place) - middle) * (float64(place) - middle)
		}
		i = end
	}
	if ranks == 0 {
		return nil
	}
	rho := cross / math.Sqrt(ranks*places)
	return &rho
}
