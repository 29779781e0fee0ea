package dataset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// unread is a set of labels alone.
func unread(labels []int32, parts []Part) *Set {
	n := int32(0)
	for _, l := range labels {
		n = max(n, l+1)
	}
	r := &records{}
	r.add(&recordFile{name: "x", n: len(labels), channels: 1, height: 1, width: 1})
	return &Set{labels: numbered(int(n)), label: labels, part: parts, src: r}
}

// balanced returns n samples of each of k labels, in the order 0, 1, ..., k-1, 0, ...
func balanced(k, n int) []int32 {
	var out []int32
	for i := range k * n {
		out = append(out, int32(i%k))
	}
	return out
}

func sum(v []int) (s int) {
	for _, x := range v {
		s += x
	}
	return s
}

func TestSplitShares(t *testing.T) {
	parts := make([]Part, 300)
	for i := range parts {
		parts[i] = PartTrain
		if i >= 200 {
			parts[i] = PartTest
		}
	}
	for _, test := range []struct {
		name  string
		parts []Part
		opt   SplitOptions
		want  [3]int // of each of 10 labels with 30 samples
	}{
		{"default", nil, SplitOptions{}, [3]int{12, 9, 9}},
		{"shipped parts", parts, SplitOptions{}, [3]int{12, 8, 10}},
		{"shares", nil, SplitOptions{Fit: .5, Stats: .2, Eval: .1}, [3]int{15, 6, 3}},
		{"only eval", nil, SplitOptions{Eval: 1}, [3]int{0, 0, 30}},
		{"eval of the test part", parts, SplitOptions{Eval: .5}, [3]int{0, 0, 5}},
		{"per label", nil, SplitOptions{PerLabel: 10}, [3]int{4, 3, 3}},
		{"limit", nil, SplitOptions{Limit: 100}, [3]int{4, 3, 3}},
		{"limit of parts", parts, SplitOptions{Limit: 150}, [3]int{6, 4, 5}},
		{"limit for one split", parts, SplitOptions{Limit: 50, Eval: 1}, [3]int{0, 0, 5}},
		{"tiny share", nil, SplitOptions{Fit: .98, Stats: .01, Eval: .01}, [3]int{28, 1, 1}},
		{"thirds", nil, SplitOptions{Fit: 1. / 3, Stats: 1. / 3, Eval: 1. / 3}, [3]int{10, 10, 10}},
		{"sum a little over 1", nil, SplitOptions{Fit: .7, Stats: .2, Eval: .1}, [3]int{21, 6, 3}},
	} {
		s := unread(balanced(10, 30), test.parts)
		fit, stats, eval, err := s.Split(test.opt)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for k, sp := range []Split{fit, stats, eval} {
			for l, n := range sp.PerLabel {
				if n != test.want[k] {
					t.Errorf("%s: %s has %d of label %d, want %d", test.name, sp.Name, n, l, test.want[k])
				}
			}
		}
		checkSplits(t, s, fit, stats, eval)
	}
}

func checkSplits(t *testing.T, s *Set, splits ...Split) {
	t.Helper()
	seen := map[int]string{}
	for _, sp := range splits {
		if len(sp.Index) != sum(sp.PerLabel) || !slices.IsSorted(sp.Index) || len(sp.Hash) != 64 {
			t.Errorf("%s: %d samples, %d counted, hash %q", sp.Name, len(sp.Index), sum(sp.PerLabel), sp.Hash)
		}
		for _, i := range sp.Index {
			if seen[i] != "" {
				t.Errorf("sample %d is in %s and %s", i, seen[i], sp.Name)
			}
			seen[i] = sp.Name
			if s.part != nil && (s.Part(i) == PartTest) != (sp.Name == "eval") {
				t.Errorf("sample %d of part %v is in %s", i, s.Part(i), sp.Name)
			}
		}
	}
}

// TestSplitRandom: on sets of any shape the splits are disjoint and hold every
// label, or the error says what is missing.
func TestSplitRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	ok := 0
	for range 2000 {
		var labels []int32
		var parts []Part
		for l := range 1 + rng.IntN(6) {
			for range rng.IntN(15) {
				labels = append(labels, int32(l))
				parts = append(parts, PartTrain+Part(rng.IntN(2)))
			}
		}
		if len(labels) == 0 || !slices.Contains(parts, PartTest) || !slices.Contains(parts, PartTrain) || rng.IntN(2) == 0 {
			parts = nil
		}
		s := unread(labels, parts)
		opt := SplitOptions{Seed: rng.Uint64(), Limit: rng.IntN(40), PerLabel: rng.IntN(12)}
		fit, stats, eval, err := s.Split(opt)
		total := make([]int, len(s.labels))
		for _, l := range labels {
			total[l]++
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v", err)
			}
			enough := opt.Limit == 0 && opt.PerLabel == 0 && parts == nil
			for _, n := range total {
				enough = enough && (n == 0 || n >= 3)
			}
			if enough {
				t.Fatalf("%v: %v", total, err)
			}
			continue
		}
		ok++
		checkSplits(t, s, fit, stats, eval)
		n := len(fit.Index) + len(stats.Index) + len(eval.Index)
		if opt.Limit > 0 && n > opt.Limit {
			t.Fatalf("%d samples, limit %d", n, opt.Limit)
		}
		for l, have := range total {
			counts := []int{fit.PerLabel[l], stats.PerLabel[l], eval.PerLabel[l]}
			if have > 0 && slices.Min(counts) == 0 || have == 0 && slices.Max(counts) > 0 {
				t.Fatalf("label %d with %d samples is split into %v", l, have, counts)
			}
			if opt.PerLabel > 0 && sum(counts) > opt.PerLabel {
				t.Fatalf("label %d: %v, at most %d", l, counts, opt.PerLabel)
			}
			if opt.PerLabel == 0 && opt.Limit == 0 && sum(counts) != have {
				t.Fatalf("label %d with %d samples is split into %v", l, have, counts)
			}
		}
	}
	if ok < 500 {
		t.Errorf("only %d of 2000 sets could be split", ok)
	}
}

// TestSplitFixed pins the draw: the same on every machine and for ever.
func TestSplitFixed(t *testing.T) {
	s := unread(balanced(3, 10), nil)
	fit, stats, eval, err := s.Split(SplitOptions{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(fit.Index), "[0 2 5 7 8 12 13 14 18 19 24 28]"; got != want {
		t.Errorf("fit %s, want %s", got, want)
	}
	if got, want := fit.Hash, "b6164db3b98428ad2a18fd07ced603e73dacaddc20a72406a9f68999d0d2ac63"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	again, _, _, err := s.Split(SplitOptions{Seed: 7})
	if err != nil || !slices.Equal(again.Index, fit.Index) || again.Hash != fit.Hash {
		t.Errorf("the same seed gives another split: %v", err)
	}
	other, _, _, err := s.Split(SplitOptions{Seed: 8})
	if err != nil || slices.Equal(other.Index, fit.Index) || other.Hash == fit.Hash {
		t.Errorf("another seed gives the same split: %v", err)
	}
	if fit.Hash == stats.Hash || stats.Hash == eval.Hash {
		t.Error("different splits have one hash")
	}
	s.label[fit.Index[0]] = (s.label[fit.Index[0]] + 1) % 3
	if s.hash(fit.Index) == fit.Hash {
		t.Error("the hash does not see a label")
	}
}

func TestSplitErrors(t *testing.T) {
	labels := append(balanced(2, 5), 2, 2) // two samples of label 2
	parts := slices.Repeat([]Part{PartTrain}, len(labels))
	parts[0] = PartTest
	for _, test := range []struct {
		parts []Part
		opt   SplitOptions
		want  string
	}{
		{nil, SplitOptions{}, "label 2 (2) has 2 samples; at least 3 are needed"},
		{parts, SplitOptions{}, "label 1 (1) has 0 samples in the test part; at least 1 are needed"},
		{nil, SplitOptions{Eval: 1, Limit: 2}, "a limit of 2 samples is less than one for each of 3 labels"},
		{nil, SplitOptions{PerLabel: 2}, "the limit leaves label 0 (0) 2 samples; at least 3 are needed"},
		{nil, SplitOptions{Fit: .5, Stats: .5, Eval: .5}, "more than the whole set"},
		{parts, SplitOptions{Fit: .7, Stats: .5}, "more than the whole training part"},
		{nil, SplitOptions{Fit: -1}, "each must be 0 to 1"},
		{nil, SplitOptions{Limit: -1}, "cannot be negative"},
	} {
		s := unread(labels, test.parts)
		s.root = "some/where"
		_, _, _, err := s.Split(test.opt)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "cannot split some/where: ") {
			t.Errorf("%+v: %v, want %q", test.opt, err, test.want)
		}
	}
}

func TestQuotas(t *testing.T) {
	for _, test := range []struct {
		total []int
		limit int
		want  []int
	}{
		{[]int{10, 10, 10}, 9, []int{3, 3, 3}},
		{[]int{1, 10, 10}, 9, []int{1, 4, 4}},
		{[]int{10, 0, 2, 10}, 11, []int{4, 0, 2, 5}},
		{[]int{3, 3}, 7, []int{3, 3}},
	} {
		got, err := quotas(test.total, SplitOptions{Limit: test.limit})
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v limited to %d: %v, %v; want %v", test.total, test.limit, got, err, test.want)
		}
	}
}

func TestLeaks(t *testing.T) {
	dir := t.TempDir()
	one, two := pngBytes(t, noise(3, 3, 1)), pngBytes(t, noise(3, 3, 2))
	put(t, dir, "train/a/1.png", one)
	put(t, dir, "train/a/2.png", two)
	put(t, dir, "test/a/1.png", two)
	put(t, dir, "test/a/2.png", two)
	put(t, dir, "test/a/3.png", pngBytes(t, noise(3, 3, 3)))
	s := mustOpen(t, dir, Options{})
	train, test := Split{Index: []int{3, 4}}, Split{Index: []int{0, 1, 2}}
	if n, err := s.Leaks(train, test); n != 2 || err != nil {
		t.Errorf("folder: %d leaks, %v; want 2", n, err)
	}
	if n, err := s.Leaks(test, train); n != 1 || err != nil {
		t.Errorf("folder, the other way: %d leaks, %v; want 1", n, err)
	}

	dir = t.TempDir()
	data := cifar([]byte{1}, []byte{2}, []byte{3})
	put(t, dir, "train.bin", data)
	put(t, dir, "test.bin", append([]byte{9}, data[3073+1:2*3073]...)) // pixels of record 1, another label
	s = mustOpen(t, dir, Options{})
	if n, err := s.Leaks(Split{Index: []int{0, 1, 2}}, Split{Index: []int{3}}); n != 1 || err != nil {
		t.Errorf("records: %d leaks, %v; want 1", n, err)
	}
	if n, err := s.Leaks(Split{Index: []int{0, 2}}, Split{Index: []int{3}}); n != 0 || err != nil {
		t.Errorf("records: %d leaks, %v; want 0", n, err)
	}
}

func TestBalanced(t *testing.T) {
	// 40 a, 10 b, 25 c of train; 8 a, 6 b, 30 c of test.
	build := func(parted bool, more ...int32) *Set {
		var labels []int32
		var parts []Part
		add := func(part Part, label int32, n int) {
			for range n {
				labels, parts = append(labels, label), append(parts, part)
			}
		}
		add(PartTrain, 0, 40)
		add(PartTrain, 1, 10)
		add(PartTrain, 3, 25)
		add(PartTest, 0, 8)
		add(PartTest, 1, 6)
		add(PartTest, 3, 30)
		for _, l := range more {
			add(PartTrain, l, 1)
		}
		if !parted {
			parts = nil
		}
		return unread(labels, parts)
	}
	for _, test := range []struct {
		name             string
		parted           bool
		opt              SplitOptions
		fit, stats, eval int
	}{
		{"whole", false, SplitOptions{}, 6, 5, 5},
		{"parts", true, SplitOptions{}, 6, 4, 6},
		{"per label", true, SplitOptions{PerLabel: 8}, 3, 2, 3},
		{"limit", false, SplitOptions{Limit: 32}, 4, 3, 3},
		{"limit above", false, SplitOptions{Limit: 1000}, 6, 5, 5},
		{"only stats", true, SplitOptions{Stats: 1}, 0, 10, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opt.Balanced, test.opt.Seed = true, 3
			fit, stats, eval, err := build(test.parted).Split(test.opt)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				split Split
				want  int
			}{{fit, test.fit}, {stats, test.stats}, {eval, test.eval}} {
				if want := []int{c.want, c.want, 0, c.want}; !slices.Equal(c.split.PerLabel, want) {
					t.Errorf("%s has %v, want %v", c.split.Name, c.split.PerLabel, want)
				}
			}
			again, _, _, _ := build(test.parted).Split(test.opt)
			test.opt.Seed = 4
			other, _, _, _ := build(test.parted).Split(test.opt)
			if again.Hash != fit.Hash || test.fit > 0 && other.Hash == fit.Hash {
				t.Error("the split does not depend on the seed alone")
			}
		})
	}
	if _, _, _, err := build(true, 2).Split(SplitOptions{Balanced: true}); !errors.Is(err, ErrEmpty) || !strings.Contains(err.Error(), "label 2 (2) has 0 samples in the test part") {
		t.Errorf("%v", err)
	}
	if _, _, _, err := build(false).Split(SplitOptions{Balanced: true, Limit: 2}); err == nil || !strings.Contains(err.Error(), "less than one for each of 3 labels") {
		t.Errorf("%v", err)
	}
}
