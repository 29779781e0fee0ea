package compute

import (
	"slices"
	"testing"
)

func count(n int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(i)
	}
	return x
}

func TestTranspose(t *testing.T) {
	for _, c := range []struct{ shape, perm []int }{
		{nil, nil}, {[]int{5}, []int{0}}, {[]int{3, 4}, []int{1, 0}}, {[]int{3, 4}, []int{0, 1}}, {[]int{2, 3, 4, 5}, []int{0, 2, 3, 1}},
		{[]int{2, 3, 4, 5}, []int{0, 3, 1, 2}}, {[]int{2, 3, 4, 5}, []int{3, 2, 1, 0}}, {[]int{2, 3, 4, 5}, []int{1, 0, 2, 3}},
		{[]int{2, 3, 4, 5}, []int{1, 0, 3, 2}}, {[]int{100, 70, 33}, []int{2, 1, 0}}, {[]int{1, 4, 1, 3}, []int{3, 2, 1, 0}}, {[]int{0, 3}, []int{1, 0}},
		{[]int{2, 3, 2, 3, 2}, []int{4, 1, 3, 0, 2}},
	} {
		x := count(size(c.shape))
		got := make([]int32, len(x))
		Transpose(NewWorkers(3), got, x, c.shape, c.perm)
		out := make([]int, len(c.perm))
		for i, p := range c.perm {
			out[i] = c.shape[p]
		}
		each(out, func(at int, index []int) {
			from := make([]int, len(index))
			for i, p := range c.perm {
				from[p] = index[i]
			}
			if want := x[place(c.shape, from)]; got[at] != want {
				t.Fatalf("%v by %v at %v: %d, want %d", c.shape, c.perm, index, got[at], want)
			}
		})
	}
}

func TestSliceExpandTile(t *testing.T) {
	shape := []int{3, 4, 5}
	x := count(60)
	out, start, step := []int{2, 4, 2}, []int{0, 3, 4}, []int{2, -1, -3}
	got := make([]int32, size(out))
	Slice(NewWorkers(2), got, out, x, shape, start, step)
	each(out, func(at int, i []int) {
		if want := x[((start[0]+i[0]*step[0])*4+start[1]+i[1]*step[1])*5+start[2]+i[2]*step[2]]; got[at] != want {
			t.Errorf("slice at %v: %d, want %d", i, got[at], want)
		}
	})
	Slice(nil, nil, []int{0, 4, 5}, x, shape, []int{3, 0, 0}, []int{1, 1, 1})

	out = []int{2, 3, 4, 2}
	got = make([]int32, size(out))
	Expand(NewWorkers(2), got, out, x[:12], []int{3, 4, 1})
	each(out, func(at int, i []int) {
		if want := x[i[1]*4+i[2]]; got[at] != want {
			t.Errorf("expand at %v: %d, want %d", i, got[at], want)
		}
	})

	got = make([]int32, 2*3*3*4)
	Tile(NewWorkers(2), got, x[:12], []int{3, 4}, []int{2, 3})
	each([]int{6, 12}, func(at int, i []int) {
		if want := x[i[0]%3*4+i[1]%4]; got[at] != want {
			t.Errorf("tile at %v: %d, want %d", i, got[at], want)
		}
	})
}

func TestConcatGather(t *testing.T) {
	got := make([]int32, 10)
	Concat(NewWorkers(2), got, [][]int32{{0, 1, 2, 3}, {}, {4, 5, 6, 7, 8, 9}}, []int{2, 0, 3})
	if want := []int32{0, 1, 4, 5, 6, 2, 3, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	x := count(2 * 3 * 2)
	got = make([]int32, 2*4*2)
	Gather(NewWorkers(2), got, x, 3, 2, []int{2, 0, 0, 1})
	if want := []int32{4, 5, 0, 1, 0, 1, 2, 3, 10, 11, 6, 7, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPadIndex(t *testing.T) {
	for _, c := range []struct {
		mode      PadMode
		n, lo, hi int
		want      []int
	}{
		{PadConstant, 3, 2, 1, []int{-1, -1, 0, 1, 2, -1}}, {PadReflect, 3, 4, 3, []int{0, 1, 2, 1, 0, 1, 2, 1, 0, 1}},
		{PadReflect, 1, 2, 1, []int{0, 0, 0, 0}}, {PadEdge, 3, 2, 2, []int{0, 0, 0, 1, 2, 2, 2}}, {PadWrap, 3, 4, 2, []int{2, 0, 1, 2, 0, 1, 2, 0, 1}},
		{PadConstant, 5, -1, -2, []int{1, 2}}, {PadConstant, 3, -1, 1, []int{1, 2, -1}}, {PadConstant, 2, -3, 0, []int{}}, {PadConstant, 0, 1, 1, []int{-1, -1}},
	} {
		if got := c.mode.Index(c.n, c.lo, c.hi); !slices.Equal(got, c.want) {
			t.Errorf("mode %d, length %d, %d before and %d behind: %v, want %v", c.mode, c.n, c.lo, c.hi, got, c.want)
		}
	}
}

func TestTake(t *testing.T) {
	shape := []int{2, 3, 40}
	x := count(size(shape))
	scattered, runs := make([]int, 30), PadConstant.Index(40, 3, 2)
	for i := range scattered {
		scattered[i] = i*7%41 - 1
	}
	for _, last := range [][]int{scattered, runs} {
		index := [][]int{{1, -1, 0}, {2, 2, 0, -1}, last}
		out := []int{3, 4, len(last)}
		got := make([]int32, size(out))
		Take(NewWorkers(3), got, x, shape, index, 99)
		each(out, func(at int, i []int) {
			a, b, c := index[0][i[0]], index[1][i[1]], index[2][i[2]]
			want := int32(99)
			if a >= 0 && b >= 0 && c >= 0 {
				want = x[(a*3+b)*40+c]
			}
			if got[at] != want {
				t.Fatalf("at %v: %d, want %d", i, got[at], want)
			}
		})
	}
	one := []int32{0}
	if Take(nil, one, []int32{7}, nil, nil, 1); one[0] != 7 {
		t.Error(one)
	}
}

func BenchmarkTranspose(b *testing.B) {
	shape := []int{8, 64, 56, 56}
	x := floats(1, size(shape))
	dst := make([]float32, len(x))
	for name, perm := range map[string][]int{"to channels last": {0, 2, 3, 1}, "reversed": {3, 2, 1, 0}, "swap of blocks": {1, 0, 2, 3}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				Transpose(nil, dst, x, shape, perm)
			}
		})
	}
}
