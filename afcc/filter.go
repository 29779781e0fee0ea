package afcc

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
)

// DefaultTheta is the threshold of the reference method.
const DefaultTheta = 0.3

// MaxLabels is the largest number of labels: a field matrix then takes 4 GiB.
const MaxLabels = 1 << 15

// CheckTheta returns an *ArgumentError unless theta is in [0,1), also after
// rounding to float32.
func CheckTheta(theta float64) error {
	if t := float32(theta); t >= 0 && t < 1 && theta >= 0 {
		return nil
	}
	return argumentf("theta", "%v is not in [0,1); the reference value is %v", theta, DefaultTheta)
}

// Filter is what is left of a filter's field matrix after clipping. It can be
// written as JSON and read back without loss.
type Filter struct {
	// Index is the filter's number in its layer.
	Index int `json:"index"`
	// Max is the largest field. A filter with Max <= 0 has no clipped matrix,
	// hence neither clusters nor noise.
	Max float64 `json:"max"`
	// NonFinite says that the largest field is infinite or that a field is NaN.
	// The filter is then treated like one with Max <= 0, and Max is 0.
	NonFinite bool `json:"non_finite,omitempty"`
	// Ratios holds M_f(j,j)/Max for each label j, nil when there is no clipped
	// matrix. Label j is in the filter's label set L_f(theta) iff its ratio is
	// above theta: a lone diagonal one is a cluster too, so the union of the
	// clusters is the set of ones on the diagonal, whatever the clusters are.
	// Quotients beyond the range of float32 are held at its ends.
	Ratios []float32 `json:"ratios"`
	// Clusters holds the labels of each cluster, ascending; the clusters are
	// disjoint and in the order of their first label.
	Clusters [][]int `json:"clusters"`
	// Ones counts the ones of the clipped matrix B_f; Noise, n_f, those outside
	// the cluster blocks; Internal the part of Noise in columns of the label
	// set, which survives AFCC, and External the rest.
	Ones     int `json:"ones"`
	Noise    int `json:"noise"`
	Internal int `json:"internal"`
	External int `json:"external"`
}

// D returns d_f, the number of labels in the filter's clusters.
func (f *Filter) D() int {
	d := 0
	for _, c := range f.Clusters {
		d += len(c)
	}
	return d
}

// Labels returns L_f, the union of the filter's clusters, ascending. It is nil
// for a filter without clusters.
func (f *Filter) Labels() []int {
	labels := slices.Concat(f.Clusters...)
	slices.Sort(labels)
	return labels
}

// LabelsAt returns the label set that the filter would have at another
// threshold, ascending.
func (f *Filter) LabelsAt(theta float64) []int {
	var labels []int
	for j, r := range f.Ratios {
		if r > float32(theta) {
			labels = append(labels, j)
		}
	}
	return labels
}

// Analyze clips a field matrix m (K x K, row-major; row = input label, column =
// output) at theta and finds its clusters and its noise. Index is left 0.
//
// The clipped matrix is B(i,j) = 1 iff m(i,j)/max(m) > theta. Clusters are found
// greedily in ascending label order: the first unused label with a diagonal one
// opens a cluster, and each later unused one joins when the block stays filled
// with ones, in both directions (arXiv:2309.07537; the order, on which the result
// depends, is our choice).
//
// It panics when k is not in [1,MaxLabels], m does not have k*k elements, or theta is
// refused by [CheckTheta].
func Analyze(m []float32, k int, theta float64) Filter {
	if k < 1 || k > MaxLabels || len(m) != k*k {
		panic(fmt.Sprintf("afcc: %d fields for %d labels", len(m), k))
	}
	if err := CheckTheta(theta); err != nil {
		panic("afcc: " + err.Error())
	}
	return newAnalyzer(k, theta).dense(m)
}

// analyzer holds the memory that the analysis of one filter needs, for reuse.
type analyzer struct {
	k, words int
	theta    float32
	rows     []uint64 // clipped matrix, one bit per entry, words per row
	labels   []uint64 // the label set
	members  []uint64 // labels of the growing cluster
	common   []uint64 // columns that are one in the rows of all members
	cand     []int    // candidates that no cluster has taken yet, ascending

	// For layer outputs with one position:
	a, w   []float32 // label means and head weights of the filter
	order  []int     // outputs by descending weight
	before []int     // before[n]: how many of the first n outputs are labels of the filter
}

func newAnalyzer(k int, theta float64) *analyzer {
	words := (k + 63) / 64
	return &analyzer{
		k: k, words: words, theta: float32(theta),
		rows:    make([]uint64, k*words),
		labels:  make([]uint64, words),
		members: make([]uint64, words),
		common:  make([]uint64, words),
		cand:    make([]int, 0, k),
		a:       make([]float32, k),
		w:       make([]float32, k),
		order:   make([]int, k),
		before:  make([]int, k+1),
	}
}

// dense analyses a field matrix.
func (z *analyzer) dense(m []float32) Filter {
	f, ok := open(maximum(m))
	if !ok {
		return f
	}
	top := float32(f.Max)
	least := cutoff(top, z.theta)
	f.Ratios = make([]float32, z.k)
	for i := range z.k {
		row := m[i*z.k : (i+1)*z.k]
		f.Ratios[i] = ratio(row[i], top)
		clip(z.row(i), row, least)
	}
	z.findLabels(f.Ratios)
	inColumns := 0
	for i := range z.k {
		for x, word := range z.row(i) {
			f.Ones += bits.OnesCount64(word)
			inColumns += bits.OnesCount64(word & z.labels[x])
		}
	}
	z.finish(&f, inColumns)
	return f
}

// outer analyses the field matrix a_i * w_j without forming it.
func (z *analyzer) outer(a, w []float32) Filter {
	// Rounded multiplication is monotonic in each factor, so the largest of all
	// products is the product of two extremes. A NaN passes through min and max;
	// one from 0 * Inf is among these four products, or +Inf is.
	aLow, aHigh := slices.Min(a), slices.Max(a)
	wLow, wHigh := slices.Min(w), slices.Max(w)
	f, ok := open(max(aLow*wLow, aLow*wHigh, aHigh*wLow, aHigh*wHigh))
	if !ok {
		return f
	}
	top := float32(f.Max)
	least := cutoff(top, z.theta)
	f.Ratios = make([]float32, z.k)
	for i, x := range a {
		f.Ratios[i] = ratio(x*w[i], top)
	}
	z.findLabels(f.Ratios)

	// With the outputs in descending order of w, the ones of a row are a prefix
	// where a_i > 0 and a suffix where a_i < 0: two numbers count them.
	for j := range z.order {
		z.order[j] = j
	}
	slices.SortFunc(z.order, func(i, j int) int { return cmp.Compare(w[j], w[i]) })
	for n, j := range z.order {
		z.before[n+1] = z.before[n] + int(z.labels[j>>6]>>(j&63)&1)
	}
	inColumns := 0
	for _, x := range a {
		low, high := 0, 0
		switch {
		case x > 0:
			high = sort.Search(z.k, func(n int) bool { return x*w[z.order[n]] < least })
		case x < 0:
			low, high = sort.Search(z.k, func(n int) bool { return x*w[z.order[n]] >= least }), z.k
		}
		f.Ones += high - low
		inColumns += z.before[high] - z.before[low]
	}
	for _, i := range z.cand {
		clipProduct(z.row(i), w, a[i], least)
	}
	z.finish(&f, inColumns)
	return f
}

func (z *analyzer) row(i int) []uint64 { return z.rows[i*z.words : (i+1)*z.words] }

// findLabels sets the label set and with it the candidates for clusters.
func (z *analyzer) findLabels(ratios []float32) {
	clear(z.labels)
	z.cand = z.cand[:0]
	for j, r := range ratios {
		if r > z.theta {
			z.cand = append(z.cand, j)
			set(z.labels, j)
		}
	}
}

// finish forms the clusters, from the clipped rows of the candidates, and sorts
// out the noise. inColumns is the number of ones in columns of the label set.
func (z *analyzer) finish(f *Filter, inColumns int) {
	inBlocks := 0
	for len(z.cand) > 0 {
		c := z.takeCluster()
		f.Clusters = append(f.Clusters, c)
		inBlocks += len(c) * len(c)
	}
	f.Noise = f.Ones - inBlocks
	f.Internal = inColumns - inBlocks
	f.External = f.Noise - f.Internal
}

// takeCluster moves the next cluster out of the candidates.
func (z *analyzer) takeCluster() []int {
	first := z.cand[0]
	cluster := []int{first}
	clear(z.members)
	set(z.members, first)
	copy(z.common, z.row(first))
	rest := z.cand[:0]
	for _, t := range z.cand[1:] {
		if !has(z.common, t) || !subset(z.members, z.row(t)) {
			rest = append(rest, t)
			continue
		}
		cluster = append(cluster, t)
		set(z.members, t)
		for x, word := range z.row(t) {
			z.common[x] &= word
		}
	}
	z.cand = rest
	return cluster
}

// open starts a Filter from its largest field; false when there is nothing to
// clip.
func open(top float32) (Filter, bool) {
	v := float64(top)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Filter{NonFinite: true}, false
	}
	return Filter{Max: v + 0}, v > 0 // + 0 turns -0 into 0
}

// maximum returns the largest element, NaN when one is NaN.
func maximum(m []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range m {
		if !(v <= top) {
			if v != v {
				return v
			}
			top = v
		}
	}
	return top
}

func ratio(v, top float32) float32 {
	return min(max(v/top, -math.MaxFloat32), math.MaxFloat32)
}

// cutoff returns the smallest float32 whose quotient by top, which is positive
// and finite, is above theta: v/top > theta iff v >= cutoff. Division rounds
// monotonically, and the bits of positive floats are ordered like the floats.
func cutoff(top, theta float32) float32 {
	n := int(math.Float32bits(top))
	b := sort.Search(n, func(b int) bool { return math.Float32frombits(uint32(b))/top > theta })
	return math.Float32frombits(uint32(b))
}

// clip writes one bit per element of row: row[j] >= least. least is positive and
// no element is NaN.
func clip(dst []uint64, row []float32, least float32) {
	// As integers the bits of floats keep their order above zero, and negative
	// floats stay below: the sign of a difference is the bit wanted, without a
	// branch that noise would mispredict.
	below := int64(math.Float32bits(least)) - 1
	for x := range dst {
		part := row[x*64 : min(len(row), x*64+64)]
		var word uint64
		for _, v := range part {
			word = word>>1 | uint64(below-int64(int32(math.Float32bits(v))))&(1<<63)
		}
		dst[x] = word >> (64 - len(part))
	}
}

// clipProduct is clip for the row a*w[j].
func clipProduct(dst []uint64, w []float32, a, least float32) {
	below := int64(math.Float32bits(least)) - 1
	for x := range dst {
		part := w[x*64 : min(len(w), x*64+64)]
		var word uint64
		for _, v := range part {
			word = word>>1 | uint64(below-int64(int32(math.Float32bits(a*v))))&(1<<63)
		}
		dst[x] = word >> (64 - len(part))
	}
}

func set(b []uint64, i int) { b[i>>6] |= 1 << (i & 63) }

func has(b []uint64, i int) bool { return b[i>>6]>>(i&63)&1 != 0 }

// subset reports whether every bit of a is set in b.
func subset(a, b []uint64) bool {
	for x, word := range a {
		if word&^b[x] != 0 {
			return false
		}
	}
	return true
}
