package refit

import (
	"context"

	"gonum.org/v1/gonum/floats"
)

// A descent minimises a smooth convex function with the limited-memory BFGS method
// (Nocedal and Wright, "Numerical Optimization", 2nd ed., algorithm 7.5) and a step
// that is halved until the function falls enough (Armijo).
type descent struct {
	// f returns the function's value at x and writes its gradient to g.
	f func(ctx context.Context, x, g []float64) (float64, error)
	// memory is the number of pairs of differences that are kept.
	memory int

	x, g   []float64
	value  float64
	s, y   [][]float64
	rho    []float64
	nextX  []float64
	nextG  []float64
	d      []float64
	alphas []float64
}

// start evaluates the function at x, which is taken over.
func (m *descent) start(ctx context.Context, x []float64) (err error) {
	m.x, m.g, m.nextX, m.nextG, m.d = x, make([]float64, len(x)), make([]float64, len(x)), make([]float64, len(x)), make([]float64, len(x))
	m.s, m.y, m.rho = nil, nil, nil
	m.value, err = m.f(ctx, m.x, m.g)
	return err
}

// step takes a step. moved is false when there is none that goes down.
func (m *descent) step(ctx context.Context) (moved bool, err error) {
	copy(m.d, m.g)
	m.alphas = m.alphas[:0]
	for i := len(m.s) - 1; i >= 0; i-- {
		a := m.rho[i] * floats.Dot(m.s[i], m.d)
		m.alphas = append(m.alphas, a)
		floats.AddScaled(m.d, -a, m.y[i])
	}
	if n := len(m.s); n > 0 {
		floats.Scale(1/(m.rho[n-1]*floats.Dot(m.y[n-1], m.y[n-1])), m.d)
	} else if norm := floats.Norm(m.d, 2); norm > 1 {
		floats.Scale(1/norm, m.d)
	}
	for i := range m.s {
		b := m.rho[i] * floats.Dot(m.y[i], m.d)
		floats.AddScaled(m.d, m.alphas[len(m.s)-1-i]-b, m.s[i])
	}
	slope := -floats.Dot(m.d, m.g)
	if !(slope < 0) {
		return false, nil
	}
	const enough, halvings = 1e-4, 20
	for step, try := 1.0, 0; try < halvings; step, try = step/2, try+1 {
		floats.AddScaledTo(m.nextX, m.x, -step, m.d)
		v, err := m.f(ctx, m.nextX, m.nextG)
		if err != nil {
			return false, err
		}
		if v <= m.value+enough*step*slope {
			m.remember()
			m.x, m.nextX, m.g, m.nextG = m.nextX, m.x, m.nextG, m.g
			// A value that hardly falls is rounding.
			moved = m.value-v > 1e-9*max(m.value, 1e-9)
			m.value = v
			return moved, nil
		}
	}
	return false, nil
}

// remember keeps the differences of the last step, if the function is convex there.
func (m *descent) remember() {
	s, y := make([]float64, len(m.x)), make([]float64, len(m.x))
	if len(m.s) == m.memory {
		s, y = m.s[0], m.y[0]
		m.s, m.y, m.rho = m.s[1:], m.y[1:], m.rho[1:]
	}
	floats.SubTo(s, m.nextX, m.x)
	floats.SubTo(y, m.nextG, m.g)
	sy := floats.Dot(s, y)
	if !(sy > 1e-12*floats.Dot(y, y)) {
		return
	}
	m.s, m.y, m.rho = append(m.s, s), append(m.y, y), append(m.rho, 1/sy)
}
