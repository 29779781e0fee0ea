// Package likeness compares what two models compute inside for the same samples:
// how far apart the activations of their corresponding layers are, and how similar
// each layer of one is to each layer of the other.
//
// It knows taps, engines and samples. How models are matched, what filters
// recognise, and how a result looks do not enter.
package likeness

// Likeness says how alike the layers of two models are.
type Likeness struct {
	// Samples counts those that were run, SHA256 is of their names and labels.
	Samples int    `json:"samples"`
	SHA256  string `json:"sha256"`
	// Tolerance is the relative L2 distance above which activations part.
	Tolerance float64 `json:"tolerance"`
	// Layers has the taps of A that have a counterpart in B, in file order.
	Layers []Layer `json:"layers"`
	// Parting is the index in Layers of the first whose activations part, nil when
	// none does.
	Parting *int `json:"parting"`
	// A and B name the rows and columns of CKA: the taps of both models.
	A []Tap `json:"a"`
	B []Tap `json:"b"`
	// CKA is the linear centred kernel alignment of each tap of A with each of B,
	// Debiased that with the unbiased estimate of HSIC, which does not grow with
	// the number of features; nil where one of the two is constant over the samples
	// or not finite.
	CKA      [][]*float64 `json:"cka"`
	Debiased [][]*float64 `json:"cka_debiased"`
}

// A Tap names a tensor.
type Tap struct {
	// Layer is the name of the first layer that ends in it, Op its operator.
	Layer  string `json:"layer"`
	Op     string `json:"op"`
	Tensor string `json:"tensor"`
	// Filters, Height and Width are its shape.
	Filters int `json:"filter_count"`
	Height  int `json:"height"`
	Width   int `json:"width"`
	// Constant says that it is the same for all samples, NotFinite that it has
	// NaN or infinite numbers.
	Constant  bool `json:"constant,omitempty"`
	NotFinite bool `json:"not_finite,omitempty"`
}

// A Layer says how far the activations of two corresponding taps are apart.
type Layer struct {
	// A and B are indices in Likeness.A and Likeness.B.
	A int `json:"a"`
	B int `json:"b"`
	// Filters counts those compared: the ones of A that have a place in B.
	Filters int `json:"filters_compared"`
	// RelL2 is ||b-a|| / ||a|| over all samples, filters and positions, MaxRel the
	// largest |b-a| by the largest |a|, Cosine a.b/(||a|| ||b||); nil where they
	// are not defined, or nothing was compared, for the reason in Note.
	RelL2  *float64 `json:"rel_l2"`
	MaxRel *float64 `json:"max_rel"`
	Cosine *float64 `json:"cosine"`
	// Parts says that RelL2 is above the tolerance.
	Parts bool   `json:"parts"`
	Note  string `json:"note,omitempty"`
	// CKA and Debiased are those of the two taps.
	CKA      *float64 `json:"cka"`
	Debiased *float64 `json:"cka_debiased"`
}
