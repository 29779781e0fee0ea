package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

// A Dim is one dimension of a tensor.
type Dim struct {
	// Value is the dimension, -1 when it is not fixed.
	Value int64
	// Name is what a dimension that is not fixed is called: a symbol of the
	// file ("batch"), arithmetic with symbols ("batch*49", "past + seq",
	// "floor((height + 31)/32)"), or "" when nothing is known about it. It holds
	// for all positive sizes at which every window of a convolution or pooling
	// fits into what it slides over.
	Name string
}

// String returns the number, the name, or "?".
func (d Dim) String() string {
	switch {
	case d.Value >= 0:
		return strconv.FormatInt(d.Value, 10)
	case d.Name != "":
		return d.Name
	}
	return "?"
}

// MarshalJSON writes a number, a string for a symbolic dimension, or null.
func (d Dim) MarshalJSON() ([]byte, error) {
	switch {
	case d.Value >= 0:
		return strconv.AppendInt(nil, d.Value, 10), nil
	case d.Name != "":
		return json.Marshal(d.Name)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Dim) UnmarshalJSON(b []byte) error {
	*d = Dim{Value: -1}
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &d.Name)
	}
	if err := json.Unmarshal(b, &d.Value); err != nil {
		return err
	}
	if d.Value < 0 {
		return errors.New("a dimension is negative")
	}
	return nil
}

// A Shape is the shape of a tensor as far as it is known without running the
// model. The zero Shape is entirely unknown.
type Shape struct {
	// Known tells whether the number of dimensions is known.
	Known bool
	Dims  []Dim
}

// FixedShape returns the shape with the given dimensions; a negative one is not
// fixed.
func FixedShape(dims ...int64) Shape {
	s := Shape{Known: true, Dims: make([]Dim, len(dims))}
	for i, d := range dims {
		s.Dims[i].Value = max(d, -1)
	}
	return s
}

// String returns a form like "batch x 3 x 32 x 32", with "?" for a dimension
// that is not known and sums in parentheses, "scalar" for no dimensions, or
// "unknown".
func (s Shape) String() string {
	if !s.Known {
		return "unknown"
	}
	if len(s.Dims) == 0 {
		return "scalar"
	}
	return s.Join(" x ")
}

// Join writes the dimensions with sep between them; of several, those that are
// sums stand in parentheses.
func (s Shape) Join(sep string) string {
	parts := make([]string, len(s.Dims))
	for i, d := range s.Dims {
		if parts[i] = d.String(); len(s.Dims) > 1 && d.sum() {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	return strings.Join(parts, sep)
}

// sum tells whether d is written with a + or - outside of parentheses.
func (d Dim) sum() bool {
	depth := 0
	text := d.String()
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case '+', '-':
			if depth == 0 && i > 0 && text[i-1] == ' ' {
				return true
			}
		}
	}
	return false
}

// Fixed returns the dimensions when every one of them is a number.
func (s Shape) Fixed() (dims []int64, ok bool) {
	dims = make([]int64, len(s.Dims))
	for i, d := range s.Dims {
		if d.Value < 0 {
			return nil, false
		}
		dims[i] = d.Value
	}
	return dims, s.Known
}

// Elements returns the product of the dimensions. It is not ok when one of them
// is not fixed or when the product exceeds 64 bits.
func (s Shape) Elements() (n int64, ok bool) {
	dims, ok := s.Fixed()
	if !ok {
		return 0, false
	}
	return product(dims...)
}

// MarshalJSON writes an array of numbers, strings and nulls, or null when the
// number of dimensions is not known.
func (s Shape) MarshalJSON() ([]byte, error) {
	if !s.Known {
		return []byte("null"), nil
	}
	if s.Dims == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(s.Dims)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Shape) UnmarshalJSON(b []byte) error {
	*s = Shape{}
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	// A plain slice of Dim would leave null elements at zero.
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	s.Known = true
	s.Dims = make([]Dim, len(raw))
	for i, r := range raw {
		if err := s.Dims[i].UnmarshalJSON(r); err != nil {
			return err
		}
	}
	return nil
}

// product multiplies factors that are not negative; it is not ok on overflow
// or on a negative factor.
func product(factors ...int64) (int64, bool) {
	n, zero := int64(1), false
	for _, f := range factors {
		if f < 0 {
			return 0, false
		}
		if f == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt64/f {
			if zero {
				continue
			}
			n = -1
			continue
		}
		if n > 0 {
			n *= f
		}
	}
	if zero {
		return 0, true
	}
	return n, n > 0
}

// add adds two numbers that are not negative.
func add(a, b int64) (int64, bool) {
	if a < 0 || b < 0 || a > math.MaxInt64-b {
		return 0, false
	}
	return a + b, true
}
