package afcc

import (
	"fmt"
	"math/bits"
)

// Mask says which connections of a layer stay: row = output (a label or an output
// filter), column = input filter.
type Mask struct {
	Rows, Cols int
	bits       []uint64 // row-major, one bit per connection
}

// NewMask returns a mask that keeps nothing. It panics when a dimension is
// negative.
func NewMask(rows, cols int) *Mask {
	if rows < 0 || cols < 0 {
		panic("afcc: mask of negative size")
	}
	return &Mask{rows, cols, make([]uint64, (rows*cols+63)/64)}
}

// Kept reports whether the connection from input filter c to output r stays. It
// panics when there is no such connection.
func (m *Mask) Kept(r, c int) bool { return has(m.bits, position(r, c, m.Rows, m.Cols)) }

// Keep lets the connection from input filter c to output r stay. It panics when
// there is no such connection.
func (m *Mask) Keep(r, c int) { set(m.bits, position(r, c, m.Rows, m.Cols)) }

func position(r, c, rows, cols int) int {
	if r < 0 || c < 0 || r >= rows || c >= cols {
		panic(fmt.Sprintf("afcc: no connection from input %d to output %d among %d x %d", c, r, rows, cols))
	}
	return r*cols + c
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
