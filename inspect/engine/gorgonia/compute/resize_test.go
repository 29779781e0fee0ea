package compute

import (
	"math"
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		s        Scaling
		rounding string
		want     []int
	}{
		{Scaling{In: 2, Out: 4, Scale: 2, Coordinate: "asymmetric"}, "floor", []int{0, 0, 1, 1}},
		{Scaling{In: 2, Out: 4, Scale: 2, Coordinate: "asymmetric"}, "ceil", []int{0, 1, 1, 1}},
		{Scaling{In: 2, Out: 4, Scale: 2, Coordinate: "asymmetric"}, "round_prefer_floor", []int{0, 0, 1, 1}},
		{Scaling{In: 2, Out: 4, Scale: 2, Coordinate: "asymmetric"}, "round_prefer_ceil", []int{0, 1, 1, 1}},
		{Scaling{In: 2, Out: 6, Scale: 3, Coordinate: "half_pixel"}, "round_prefer_floor", []int{0, 0, 0, 1, 1, 1}},
		{Scaling{In: 4, Out: 2, Scale: .5, Coordinate: "half_pixel"}, "round_prefer_floor", []int{0, 2}},
		{Scaling{In: 4, Out: 2, Scale: .5, Coordinate: "half_pixel"}, "round_prefer_ceil", []int{1, 3}},
		{Scaling{In: 4, Out: 2, Scale: .5, Coordinate: "align_corners"}, "floor", []int{0, 3}},
		{Scaling{In: 4, Out: 1, Scale: .25, Coordinate: "pytorch_half_pixel"}, "floor", []int{0}},
		{Scaling{In: 3, Out: 5, Scale: 5. / 3, Coordinate: "tf_half_pixel_for_nn"}, "floor", []int{0, 0, 1, 2, 2}},
		{Scaling{In: 5, Out: 3, Coordinate: "tf_crop_and_resize", Start: .25, Limit: .75}, "floor", []int{1, 2, 3}},
	} {
		if got, err := c.s.Nearest(c.rounding); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v, %s: %v %v, want %v", c.s, c.rounding, got, err, c.want)
		}
	}
	if _, err := (Scaling{In: 1, Out: 1, Coordinate: "sideways"}).Nearest("floor"); err == nil {
		t.Error("an unknown transformation was taken")
	}
	if _, err := (Scaling{In: 1, Out: 1, Scale: 1, Coordinate: "asymmetric"}).Nearest("sideways"); err == nil {
		t.Error("an unknown rounding was taken")
	}
	out := Scaling{In: 3, Out: 4, Coordinate: "tf_crop_and_resize", Start: -.5, Limit: 1}.Outside()
	if !slices.Equal(out, []bool{true, false, false, false}) {
		t.Error(out)
	}
}

// A straight line stays one under linear and cubic interpolation, away from the
// edges; every place keeps a constant.
func TestTaps(t *testing.T) {
	for _, k := range []Kernel{Linear(), Cubic(-.5)} {
		for _, s := range []Scaling{
			{In: 12, Out: 24, Scale: 2, Coordinate: "half_pixel"}, {In: 12, Out: 31, Scale: 31. / 12, Coordinate: "align_corners"},
			{In: 12, Out: 5, Scale: 5. / 12, Coordinate: "asymmetric"}, {In: 12, Out: 7, Scale: 7. / 12, Coordinate: "half_pixel"},
		} {
			for _, smooth := range []bool{false, true} {
				taps, err := s.Taps(k, false, smooth)
				if err != nil {
					t.Fatal(err)
				}
				at, _ := s.coordinate()
				const inner = 3
				x := make([]float64, s.In*inner)
				for i := range x {
					x[i] = float64(i/inner) + 100*float64(i%inner)
				}
				got := make([]float64, s.Out*inner)
				Resample(NewWorkers(2), got, x, s.In, inner, taps)
				line := make([]float64, s.In)
				for i := range line {
					line[i] = x[i*inner]
				}
				single := make([]float64, s.Out)
				Resample(NewWorkers(2), single, line, s.In, 1, taps)
				for i := range s.Out {
					c := float64(at(i))
					if math.Abs(got[i*inner]-single[i]) > 1e-12 || math.Abs(got[i*inner+1]-got[i*inner]-100) > 1e-9 {
						t.Fatalf("%+v: places differ at %d: %v %g", s, i, got[i*inner:][:inner], single[i])
					}
					if c < 5 || c > 7 { // the widened kernel meets the edges
						continue
					}
					// Antialiased weights are a little uneven.
					if tolerance := map[bool]float64{false: 1e-9, true: .2}[smooth]; math.Abs(single[i]-c) > tolerance {
						t.Errorf("%+v, smooth %t: %g at %g", s, smooth, single[i], c)
					}
				}
			}
		}
	}
}

func TestCubicInside(t *testing.T) {
	taps, err := Scaling{In: 4, Out: 8, Scale: 2, Coordinate: "half_pixel"}.Taps(Cubic(-.75), true, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		sum := 0.
		for j := i * taps.Each; j < (i+1)*taps.Each; j++ {
			sum += taps.Weight[j]
		}
		if math.Abs(sum-1) > 1e-12 {
			t.Errorf("weights at %d sum to %g", i, sum)
		}
	}
}
