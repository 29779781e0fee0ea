package afcc

import "math/bits"

// Mask says which connections of a layer stay: row = output (a label or an output
// filter), column = input filter.
type Mask struct {
	Rows, Cols int
	bits       []uint64 // row-major, one bit per connection
}

func newMask(rows, cols int) *Mask {
	return &Mask{rows, cols, make([]uint64, (rows*cols+63)/64)}
}

// Kept reports whether the connection from input filter c to output r stays. It
// panics when there is no such connection.
func (m *Mask) Kept(r, c int) bool {
	if uint(r) >= uint(m.Rows) || uint(c) >= uint(m.Cols) {
		panic("afcc: connection out of range")
	}
	return has(m.bits, r*m.Cols+c)
}

// Count returns the number of connections that stay.
func (m *Mask) Count() int {
	n := 0
	for _, word := range m.bits {
		n += bits.OnesCount64(word)
	}
	return n
}

// Dilution returns the share of connections that fall, 0 when there are none.
func (m *Mask) Dilution() float64 {
	n := m.Rows * m.Cols
	if n == 0 {
		return 0
	}
	return float64(n-m.Count()) / float64(n)
}
