package compute

// Gemm is a product of two matrices of fixed shape,
//
//	C = Alpha*op(A)*op(B) + Beta*C,
//
// op(X) being X or its transpose: op(A) is M x K, op(B) is K x N and C is M x N.
// Matrices lie in row-major order; a leading dimension is the distance from the
// start of one row to the start of the next as the matrix lies in memory.
//
// Numbers that are not finite go through the sums as IEEE 754 has it. When Beta
// is 0, C is written without being read. When K is 0, the product is 0. A Gemm
// is not changed by Run and may serve several goroutines.
type Gemm struct {
	TransA, TransB bool
	M, N, K        int
	Alpha, Beta    float32
}

// Scratch returns how many numbers of scratch memory Run wants on w.
func (g *Gemm) Scratch(w *Workers) int {
	return 0
}

// Run multiplies. Neither a nor b may overlap c. scratch holds at least
// Scratch(w) numbers of any value; Run allocates what is missing.
func (g *Gemm) Run(w *Workers, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, scratch []float32) {
	w.Do(g.M, func(i int) {
		for j := range g.N {
			var s float32
			for p := range g.K {
				x, y := i*lda+p, p*ldb+j
				if g.TransA {
					x = p*lda + i
				}
				if g.TransB {
					y = j*ldb + p
				}
				s += a[x] * b[y]
			}
			s *= g.Alpha
			if g.Beta != 0 {
				s += g.Beta * c[i*ldc+j]
			}
			c[i*ldc+j] = s
		}
	})
}
