package probe

import "testing"

func TestLeftOut(t *testing.T) {
	for _, c := range []struct {
		height, width, pool int
		want                string
	}{
		{7, 7, 2, "; its last rows (1 of 7) and columns (1 of 7) fill no window and are left out"},
		{12, 12, 5, "; its last rows (2 of 12) and columns (2 of 12) fill no window and are left out"},
		{5, 4, 2, "; its last rows (1 of 5) fill no window and are left out"},
		{6, 8, 3, "; its last columns (2 of 8) fill no window and are left out"},
		{8, 8, 2, ""},
		{7, 7, 1, ""},
	} {
		if got := leftOut(&Tap{Height: c.height, Width: c.width, Pool: c.pool}); got != c.want {
			t.Errorf("%d x %d by %d: %q", c.height, c.width, c.pool, got)
		}
	}
}
