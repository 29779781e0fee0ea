package compute

import (
	"math"
	"testing"
)

// half is the value of a half precision number, by definition.
func half(h uint16) float64 {
	sign, e, f := 1., int(h>>10&31), float64(h&0x3ff)
	if h>>15 == 1 {
		sign = -1
	}
	switch e {
	case 31:
		if f != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	case 0:
		return sign * math.Ldexp(f, -24)
	}
	return sign * math.Ldexp(1024+f, e-25)
}

func TestFloat16(t *testing.T) {
	all, wide, back := make([]uint16, 1<<16), make([]float32, 1<<16), make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	FromFloat16(wide, all)
	ToFloat16(back, wide)
	for i, v := range wide {
		want := half(uint16(i))
		if float64(v) != want && !(v != v && want != want) {
			t.Fatalf("%#x is %g, want %g", i, v, want)
		}
		if back[i] != uint16(i) && !(v != v && half(back[i]) != half(back[i])) {
			t.Fatalf("%#x comes back as %#x", i, back[i])
		}
		if math.Signbit(float64(v)) != (i>>15 == 1) {
			t.Fatalf("%#x lost its sign", i)
		}
	}
	// Between two neighbours the nearer one is taken, halfway the even one.
	for h := range uint16(0x7bff) {
		a, b := half(h), half(h+1)
		mid := float32((a + b) / 2)
		x := []float32{math.Nextafter32(mid, 0), mid, math.Nextafter32(mid, 1e9), -mid}
		even := h + h&1
		want := []uint16{h, even, h + 1, even | 1<<15}
		got := make([]uint16, 4)
		ToFloat16(got, x)
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%g is %#x, want %#x", x[i], got[i], want[i])
			}
		}
	}
	got := make([]uint16, 5)
	ToFloat16(got, []float32{65519.99, 65520, 1e30, float32(math.Inf(-1)), math.SmallestNonzeroFloat32})
	if want := [5]uint16{0x7bff, 0x7c00, 0x7c00, 0xfc00, 0}; [5]uint16(got) != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

func TestBFloat16(t *testing.T) {
	got := make([]uint16, 6)
	x := []float32{1, 1 + 1./256, 1 + 3./256, math.MaxFloat32, float32(math.NaN()), -1 - 1.1/256}
	ToBFloat16(got, x)
	if want := [6]uint16{0x3f80, 0x3f80, 0x3f82, 0x7f80, 0x7fc0, 0xbf81}; [6]uint16(got) != want {
		t.Errorf("%#x, want %#x", got, want)
	}
	wide := make([]float32, 6)
	FromBFloat16(wide, got)
	if wide[2] != 1+2./128 || wide[4] == wide[4] || wide[3] != float32(math.Inf(1)) {
		t.Error(wide)
	}
}

func TestConvert(t *testing.T) {
	n := make([]int64, 3)
	Convert(n, []float32{1.9, -1.9, 7})
	if n[0] != 1 || n[1] != -1 || n[2] != 7 {
		t.Error(n)
	}
	b := make([]bool, 3)
	ToBool(b, []float32{0, -.5, 2})
	if b[0] || !b[1] || !b[2] {
		t.Error(b)
	}
	f := make([]float64, 2)
	FromBool(f, []bool{true, false})
	if f[0] != 1 || f[1] != 0 {
		t.Error(f)
	}
}
