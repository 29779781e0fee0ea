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
	z := newAnalyzer(k)
	z.loadFields(m, maximum(m))
	return z.at(float32(theta))
}

// analyzer analyses one filter after another, in memory that it reuses. A filter is
// loaded once and can then be clipped at any number of thresholds.
type analyzer struct {
	k, words int
	// loaded is the filter before clipping; there is something to clip if ok.
	loaded Filter
	ok     bool
	// fields is the field matrix of the loaded filter. It is nil when that is the
	// product of a and w.
	fields []float32
	// block is where fields come from that are known up to a bound only, nil for
	// exact ones.
	block *fieldBlock
	a, w  []float32 // label means and head weights of a filter with one position
	order []int     // outputs by descending w

	rows    []uint64 // clipped matrix, one bit per entry, words per row
	labels  []uint64 // the label set
	members []uint64 // labels of the growing cluster
	common  []uint64 // columns that are one in the rows of all members
	cand    []int    // candidates that no cluster has taken yet, ascending
	before  []int    // before[n]: how many of the first n outputs in order are labels
}

func newAnalyzer(k int) *analyzer {
	words := (k + 63) / 64
	return &analyzer{
		k: k, words: words,
		rows:    make([]uint64, k*words),
		labels:  make([]uint64, words),
		members: make([]uint64, words),
		common:  make([]uint64, words),
		cand:    make([]int, 0, k),
	}
}

// load loads a filter of a layer.
func (z *analyzer) load(l *layer, filter int) {
	if l.p == 1 {
		if z.a == nil {
			z.a, z.w = make([]float32, z.k), make([]float32, z.k)
			z.order, z.before = make([]int, z.k), make([]int, z.k+1)
		}
		for j := range z.k {
			z.a[j], z.w[j] = l.means[j*l.f+filter], l.w[j*l.f+filter]
		}
		z.loadProduct()
	} else {
		if z.block == nil {
			z.block = newFieldBlock(z.k, z.k, l.p)
		}
		z.block.compute(l.means, l.w, l.f, filter)
		for i := range z.k {
			z.block.v[i*(z.k+1)] = z.block.field(i, i)
		}
		z.loadFields(z.block.v, z.block.settleMaximum())
	}
	z.loaded.Index = filter
}

// loadFields loads a field matrix with its largest field. That field and those on
// the diagonal are exact.
func (z *analyzer) loadFields(m []float32, top float32) {
	z.fields = m
	z.open(top)
	for i := range z.loaded.Ratios {
		z.loaded.Ratios[i] = ratio(m[i*z.k+i], top)
	}
}

// loadProduct loads the field matrix a_i * w_j without forming it.
func (z *analyzer) loadProduct() {
	a, w := z.a, z.w
	// Rounded multiplication is monotonic in each factor, so the largest of all
	// products is the product of two extremes. A NaN passes through min and max;
	// one from 0 * Inf is among these four products, or +Inf is.
	aLow, aHigh := slices.Min(a), slices.Max(a)
	wLow, wHigh := slices.Min(w), slices.Max(w)
	z.open(max(aLow*wLow, aLow*wHigh, aHigh*wLow, aHigh*wHigh))
	if !z.ok {
		return
	}
	for i := range z.loaded.Ratios {
		z.loaded.Ratios[i] = ratio(a[i]*w[i], float32(z.loaded.Max))
	}
	for j := range z.order {
		z.order[j] = j
	}
	slices.SortFunc(z.order, func(i, j int) int { return cmp.Compare(w[j], w[i]) })
}

// open starts the loaded filter from its largest field.
func (z *analyzer) open(top float32) {
	v := float64(top)
	z.loaded, z.ok = Filter{}, false
	if math.IsNaN(v) || math.IsInf(v, 0) {
		z.loaded.NonFinite = true
		return
	}
	z.loaded.Max = v + 0 // turns -0 into 0
	if z.ok = v > 0; z.ok {
		z.loaded.Ratios = make([]float32, z.k)
	}
}

// at analyses the loaded filter at a threshold.
func (z *analyzer) at(theta float32) Filter {
	f, inColumns := z.clip(theta)
	z.findClusters(&f, inColumns)
	return f
}

// clip clips the loaded filter: it leaves the candidates and their clipped rows, and
// returns the filter with its ones, and how many of them are in columns of the
// label set.
func (z *analyzer) clip(theta float32) (f Filter, inColumns int) {
	f = z.loaded
	z.cand = z.cand[:0]
	if !z.ok {
		return f, 0
	}
	clear(z.labels)
	for j, r := range f.Ratios {
		if r > theta {
			z.cand = append(z.cand, j)
			set(z.labels, j)
		}
	}
	least := cutoff(float32(f.Max), theta)
	if z.fields != nil {
		f.Ones, inColumns = z.clipFields(least)
	} else {
		f.Ones, inColumns = z.clipProduct(least)
	}
	return f, inColumns
}

func (z *analyzer) clipFields(least float32) (ones, inColumns int) {
	for i := range z.k {
		if z.block != nil {
			z.block.settleNear(i, least)
		}
		clip(z.row(i), z.fields[i*z.k:(i+1)*z.k], least)
		for x, word := range z.row(i) {
			ones += bits.OnesCount64(word)
			inColumns += bits.OnesCount64(word & z.labels[x])
		}
	}
	return ones, inColumns
}

func (z *analyzer) clipProduct(least float32) (ones, inColumns int) {
	// With the outputs in descending order of w, the ones of a row are a prefix
	// where a_i > 0 and a suffix where a_i < 0: two numbers count them.
	for n, j := range z.order {
		z.before[n+1] = z.before[n] + int(z.labels[j>>6]>>(j&63)&1)
	}
	for _, x := range z.a {
		low, high := 0, 0
		switch {
		case x > 0:
			high = sort.Search(z.k, func(n int) bool { return x*z.w[z.order[n]] < least })
		case x < 0:
			low, high = sort.Search(z.k, func(n int) bool { return x*z.w[z.order[n]] >= least }), z.k
		}
		ones += high - low
		inColumns += z.before[high] - z.before[low]
	}
	for _, i := range z.cand {
		clipProduct(z.row(i), z.w, z.a[i], least)
	}
	return ones, inColumns
}

func (z *analyzer) row(i int) []uint64 { return z.rows[i*z.words : (i+1)*z.words] }

// findClusters forms the clusters, from the clipped rows of the candidates in the order
// in which they stand, and sorts out the noise. inColumns is the number of ones in
// columns of the label set.
func (z *analyzer) findClusters(f *Filter, inColumns int) {
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
