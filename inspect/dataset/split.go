package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
)

// SplitOptions say how a set is split. The zero value asks for the defaults.
type SplitOptions struct {
	// Seed of the draw; the same seed gives the same split on every machine.
	Seed uint64
	// Fit, Stats and Eval are shares of each label's samples. When all are 0
	// they are 0.4, 0.3 and 0.3; for a set shipped in a training and a test
	// part 0.6 and 0.4 of the training part and 1 of the test part. Otherwise
	// a share of 0 asks for an empty split. Shares of the same samples add up
	// to at most 1.
	Fit, Stats, Eval float64
	// Limit is how many samples may be used in all, spread evenly over the
	// labels, PerLabel how many of each label; 0 is no limit. Of a set shipped
	// in two parts, each part gives in proportion to its size.
	Limit, PerLabel int
	// Balanced takes the same number of samples of every label that has any: as
	// many as the scarcest has, or fewer where a limit is lower. Of a set shipped
	// in two parts that holds in each, and the parts give in proportion to what
	// their scarcest labels have.
	Balanced bool
}

// Split is a part of a set that shares no sample with the others.
type Split struct {
	// Name is "fit", "stats" or "eval".
	Name string
	// Index holds the numbers of its samples, ascending.
	Index []int
	// PerLabel counts the samples of each label.
	PerLabel []int
	// Hash is the SHA-256, in hexadecimal, of the samples' IDs and labels in
	// the order of the IDs.
	Hash string
}

// share is a split to be and its share of a pool of samples.
type share struct {
	split int
	of    float64
}

// Split draws three disjoint splits, label by label: fit to train heads on,
// stats to measure on, eval to judge with. Every label that has samples has at
// least one in each split whose share is not 0; where that is impossible the
// error names the label and how many samples it needs.
func (s *Set) Split(opt SplitOptions) (fit, stats, eval Split, err error) {
	out, err := s.split(opt)
	if err != nil {
		return Split{}, Split{}, Split{}, failure("split", s.root, err)
	}
	return out[0], out[1], out[2], nil
}

func (s *Set) split(opt SplitOptions) (out [3]Split, err error) {
	pools, err := s.pools(opt)
	if err != nil {
		return out, err
	}
	for i, name := range []string{"fit", "stats", "eval"} {
		out[i] = Split{Name: name, PerLabel: make([]int, len(s.labels))}
	}
	samples := make([][][]int, len(pools)) // pool, label
	total := make([]int, len(s.labels))
	for p := range pools {
		samples[p] = make([][]int, len(s.labels))
	}
	for i, l := range s.label {
		p := 0
		if len(pools) == 2 && s.part[i] == PartTest {
			p = 1
		}
		samples[p][l] = append(samples[p][l], i)
		total[l]++
	}
	if opt.Balanced {
		total, err = s.level(samples, total, pools)
		if err != nil {
			return out, err
		}
	}
	quota, err := quotas(total, opt)
	if err != nil {
		return out, err
	}
	if opt.Balanced {
		// The limit need not be a multiple of the labels.
		least := slices.Max(quota)
		for _, n := range quota {
			if n > 0 {
				least = min(least, n)
			}
		}
		for l := range quota {
			quota[l] = min(quota[l], least)
		}
	}
	available := func(l int) []int {
		n := make([]int, len(pools))
		for p := range pools {
			if n[p] = len(samples[p][l]); opt.Balanced {
				n[p] = scarcest(samples[p])
			}
		}
		return n
	}
	for l, n := range total {
		if n == 0 {
			continue
		}
		take := partQuotas(quota[l], available(l), pools)
		for p, shares := range pools {
			have := samples[p][l]
			// One stream a label and part: what is drawn of a label does not
			// depend on the other labels.
			rng := rand.New(rand.NewPCG(opt.Seed, uint64(l)<<8|uint64(p)))
			rng.Shuffle(len(have), func(a, b int) { have[a], have[b] = have[b], have[a] })
			counts := apportion(take[p], shares)
			if counts == nil {
				return out, s.tooFew(l, p, len(have), quota[l], pools)
			}
			for k, sh := range shares {
				sp := &out[sh.split]
				sp.Index = append(sp.Index, have[:counts[k]]...)
				sp.PerLabel[l] += counts[k]
				have = have[counts[k]:]
			}
		}
	}
	for i := range out {
		slices.Sort(out[i].Index)
		out[i].Hash = s.hash(out[i].Index)
	}
	return out, nil
}

// pools returns the shares taken from all samples, or, where training and test
// parts were shipped, of each.
func (s *Set) pools(opt SplitOptions) ([][]share, error) {
	f, st, ev := opt.Fit, opt.Stats, opt.Eval
	for _, v := range []float64{f, st, ev} {
		if !(v >= 0 && v <= 1) {
			return nil, fmt.Errorf("shares %v, %v, %v; each must be 0 to 1", f, st, ev)
		}
	}
	if opt.Limit < 0 || opt.PerLabel < 0 {
		return nil, fmt.Errorf("limits of %d samples, %d a label; they cannot be negative", opt.Limit, opt.PerLabel)
	}
	parted := s.part != nil
	if f+st+ev == 0 {
		f, st, ev = 0.4, 0.3, 0.3
		if parted {
			f, st, ev = 0.6, 0.4, 1
		}
	}
	keep := func(list ...share) []share {
		return slices.DeleteFunc(list, func(s share) bool { return s.of == 0 })
	}
	const slack = 1e-9 // 0.7 + 0.2 + 0.1 is a little more than 1
	if parted {
		if f+st > 1+slack {
			return nil, fmt.Errorf("fit %v and stats %v are more than the whole training part", f, st)
		}
		return [][]share{keep(share{0, f}, share{1, st}), keep(share{2, ev})}, nil
	}
	if f+st+ev > 1+slack {
		return nil, fmt.Errorf("fit %v, stats %v and eval %v are more than the whole set", f, st, ev)
	}
	return [][]share{keep(share{0, f}, share{1, st}, share{2, ev})}, nil
}

// quotas spreads the limits over the labels: as even as the counts allow, what
// a small label leaves goes to the others.
func quotas(total []int, opt SplitOptions) ([]int, error) {
	quota := slices.Clone(total)
	if opt.PerLabel > 0 {
		for l := range quota {
			quota[l] = min(quota[l], opt.PerLabel)
		}
	}
	if opt.Limit == 0 {
		return quota, nil
	}
	sum, labels := 0, 0
	for _, n := range quota {
		sum += n
		if n > 0 {
			labels++
		}
	}
	if sum <= opt.Limit {
		return quota, nil
	}
	if opt.Limit < labels {
		return nil, fmt.Errorf("a limit of %d samples is less than one for each of %d labels", opt.Limit, labels)
	}
	order := make([]int, 0, labels)
	for l, n := range quota {
		if n > 0 {
			order = append(order, l)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return quota[a] - quota[b] })
	left := opt.Limit
	for i, l := range order {
		quota[l] = min(quota[l], left/(len(order)-i))
		left -= quota[l]
	}
	return quota, nil
}

// scarcest counts the samples of the label with the fewest, labels without any
// left aside.
func scarcest(samples [][]int) int {
	least := 0
	for _, list := range samples {
		if n := len(list); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// level returns how many samples of each label there are when every label gives
// as many as the scarcest does, pool by pool.
func (s *Set) level(samples [][][]int, total []int, pools [][]share) ([]int, error) {
	out := make([]int, len(total))
	for p := range pools {
		if len(pools[p]) == 0 {
			continue
		}
		n := scarcest(samples[p])
		for l := range total {
			switch {
			case total[l] == 0:
			case len(samples[p][l]) == 0:
				return nil, s.tooFew(l, p, 0, 0, pools)
			default:
				out[l] += n
			}
		}
	}
	return out, nil
}

// partQuotas spreads a label's quota over the pools in proportion to what they
// have, at least the number of splits that a pool feeds.
func partQuotas(quota int, available []int, pools [][]share) []int {
	if len(pools) == 1 {
		return []int{quota}
	}
	a, b := available[0], available[1]
	if len(pools[0]) == 0 {
		return []int{0, min(quota, b)}
	}
	if len(pools[1]) == 0 {
		return []int{min(quota, a), 0}
	}
	first := int(int64(quota) * int64(a) / int64(a+b))
	first = max(first, min(len(pools[0]), a))
	first = min(first, a, max(quota-min(len(pools[1]), b), 0))
	return []int{first, min(quota-first, b)}
}

// apportion divides n samples by shares: the largest remainders are rounded up
// and nobody gets none. It returns nil when n is too small.
func apportion(n int, shares []share) []int {
	if n < len(shares) {
		return nil
	}
	counts := make([]int, len(shares))
	rest := make([]float64, len(shares))
	sum, want := 0, 0.0
	for i, s := range shares {
		exact := s.of * float64(n)
		want += exact
		counts[i] = max(int(exact+1e-9), 1)
		rest[i] = exact - float64(counts[i])
		sum += counts[i]
	}
	target := min(n, max(int(want+0.5), len(shares)))
	for sum < target {
		i := argmax(rest)
		counts[i]++
		rest[i]--
		sum++
	}
	for sum > target {
		// Ones that were rounded up from nothing are paid for by the largest.
		i := 0
		for k := range counts {
			if counts[k] > counts[i] {
				i = k
			}
		}
		counts[i]--
		sum--
	}
	return counts
}

func argmax(v []float64) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

func (s *Set) tooFew(label, pool, have, quota int, pools [][]share) error {
	need := 0
	for _, p := range pools {
		need += len(p)
	}
	where := ""
	if len(pools) == 2 {
		where = " in the training part"
		if pool == 1 {
			where = " in the test part"
		}
	}
	if have < len(pools[pool]) {
		return fault(ErrEmpty, "label %d (%s) has %d samples%s; at least %d are needed, one for each split",
			label, s.labels[label], have, where, len(pools[pool]))
	}
	return fault(ErrEmpty, "the limit leaves label %d (%s) %d samples; at least %d are needed, one for each split; raise the limit",
		label, s.labels[label], quota, need)
}

// hash identifies samples by their IDs and labels.
func (s *Set) hash(index []int) string {
	lines := make([]string, len(index))
	for k, i := range index {
		lines[k] = s.ID(i) + "\x00" + strconv.Itoa(s.Label(i)) + "\n"
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		io.WriteString(h, l)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Leaks counts the samples of b whose content is in a too: the same pixels in
// a record, the same bytes in an image file. A count above 0 means that what
// was fitted on a was seen before it is judged on b.
func (s *Set) Leaks(a, b Split) (int, error) {
	sizes := [2]map[int64][]int{{}, {}}
	for k, split := range []Split{a, b} {
		for _, i := range split.Index {
			n, err := s.src.size(i)
			if err != nil {
				return 0, failure("read", s.ID(i), err)
			}
			sizes[k][n] = append(sizes[k][n], i)
		}
	}
	w := new(scratch)
	leaks := 0
	for n, as := range sizes[0] {
		bs := sizes[1][n]
		if len(bs) == 0 {
			continue
		}
		seen := make(map[[sha256.Size]byte]bool, len(as))
		for _, i := range as {
			sum, err := s.sum(i, w)
			if err != nil {
				return 0, err
			}
			seen[sum] = true
		}
		for _, i := range bs {
			sum, err := s.sum(i, w)
			if err != nil {
				return 0, err
			}
			if seen[sum] {
				leaks++
			}
		}
	}
	return leaks, nil
}

func (s *Set) sum(i int, w *scratch) (sum [sha256.Size]byte, err error) {
	r, err := s.src.content(i, w)
	if err != nil {
		return sum, failure("read", s.ID(i), err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, failure("read", s.ID(i), err)
	}
	h.Sum(sum[:0])
	return sum, nil
}
