package inspect

// TensorStats describes the numbers of one stored tensor.
type TensorStats struct {
	Name     string  `json:"name"`
	DType    string  `json:"dtype"`
	Dims     []int64 `json:"dims"`
	Elements int64   `json:"elements"`
	Bytes    int64   `json:"bytes"`
	// Values holds what only reading can tell, nil for a type without numbers
	// (strings, complex) and for an empty tensor.
	Values *ValueStats `json:"values"`
}

// ValueStats describes numbers. NaN and infinite ones are counted and left out
// of everything else.
type ValueStats struct {
	// Min, Max, Mean and Std are nil when no value is finite. Std is that of the
	// population: the root of the mean squared distance from Mean.
	Min  *float64 `json:"min"`
	Max  *float64 `json:"max"`
	Mean *float64 `json:"mean"`
	Std  *float64 `json:"std"`
	// Zeros counts exact zeros of either sign, Subnormal what is not zero and
	// below the smallest normal number of the tensor's type.
	Zeros     int64 `json:"zeros"`
	Subnormal int64 `json:"subnormal"`
	NaN       int64 `json:"nan"`
	Inf       int64 `json:"inf"`
	// Histogram counts the finite values in bins of equal width from Min to
	// Max; Max belongs to the last one. It is nil when Min and Max are equal.
	Histogram []int64 `json:"histogram"`
}
