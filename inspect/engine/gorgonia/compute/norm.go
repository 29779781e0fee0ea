package compute

import "math"

// Normalize brings every run of x, each of n numbers, to mean 0 (where centred)
// and variance 1, then multiplies by scale and adds bias, both of which may be
// nil: (x - mean) / sqrt(variance + epsilon) * scale + bias. Each number of scale
// and bias holds for period numbers of x, and after the last one the first one
// is due again: InstanceNormalization has n = period = the size of an image,
// LayerNormalization n = len(scale) and period 1.
func Normalize[T Float](w *Workers, dst, x []T, n, period int, scale, bias []T, epsilon float64, centred bool) {
	if len(x) == 0 {
		return
	}
	pieces(w, len(x)/n, max(1, grain/n), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row, d := x[r*n:(r+1)*n], dst[r*n:(r+1)*n]
			var mean float64
			if centred {
				mean = sum(row) / float64(n)
			}
			var square float64
			for _, v := range row {
				c := float64(v) - mean
				square += c * c
			}
			by := 1 / math.Sqrt(square/float64(n)+epsilon)
			if period == 1 && len(scale) == n {
				for i, v := range row {
					y := (float64(v) - mean) * by * float64(scale[i])
					if bias != nil {
						y += float64(bias[i])
					}
					d[i] = T(y)
				}
				continue
			}
			for i := 0; i < n; {
				run, k := period-(r*n+i)%period, (r*n+i)/period
				end := min(n, i+run)
				factor, add := by, 0.
				if scale != nil {
					factor *= float64(scale[k%len(scale)])
				}
				if bias != nil {
					add = float64(bias[k%len(bias)])
				}
				for ; i < end; i++ {
					d[i] = T((float64(row[i])-mean)*factor + add)
				}
			}
		}
	})
}

// LRN is local response normalization across channels (Krizhevsky et al., 2012):
// x / (bias + alpha/size * sum of x^2 over size channels around)^beta. x has
// shape (N, channels, inner).
func LRN[T Float](w *Workers, dst, x []T, channels, inner, size int, alpha, beta, bias float64) {
	before := (size - 1) / 2
	pieces(w, len(x)/max(1, inner), max(1, grain/max(1, inner)), func(lo, hi int) {
		sums := make([]float64, inner)
		for r := lo; r < hi; r++ {
			c := r % channels
			clear(sums)
			for k := max(0, c-before); k < min(channels, c-before+size); k++ {
				for i, v := range x[(r-c+k)*inner:][:inner] {
					sums[i] += float64(v) * float64(v)
				}
			}
			for i, v := range x[r*inner:][:inner] {
				dst[r*inner+i] = T(float64(v) * math.Pow(bias+alpha/float64(size)*sums[i], -beta))
			}
		}
	})
}

// LpNormalize divides a row by the root of order p (1 or 2) of the sum of its
// powers; a row of zeros stays. For Along.
func LpNormalize[T Float](p int) func(dst, row []T) {
	return func(dst, row []T) {
		var norm float64
		for _, v := range row {
			if p == 1 {
				norm += math.Abs(float64(v))
			} else {
				norm += float64(v) * float64(v)
			}
		}
		if p != 1 {
			norm = math.Sqrt(norm)
		}
		for i, v := range row {
			if norm != 0 {
				v = T(float64(v) / norm)
			}
			dst[i] = v
		}
	}
}
