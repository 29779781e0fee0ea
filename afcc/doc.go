// Package afcc is the method of applying filters' cluster connections (AFCC) as
// pure mathematics: field matrices, clusters, their statistics, and the masks
// that follow from them.
//
// It starts from two arrays of a layer output, the head weights and the mean
// activation of each label, and ends with label sets, a layer's row of
// statistics, and which connections to keep. How the arrays were measured and
// what is done with a mask is the business of other packages: nothing here may
// know a file format, a runtime, a report or a model, and only gonum and the
// standard library may be imported, so that the method can be read, tested and
// reused alone.
//
// Source: "Towards a universal mechanism for successful deep learning",
// arXiv:2309.07537 (Scientific Reports 14:5881, 2024), its predecessor
// arXiv:2305.18078 and its successor on convolutional layers arXiv:2501.12880.
//
// # Threshold and comparison
//
// A threshold theta is a number in [0,1), usually [DefaultTheta]. Every
// comparison with it is strict and in float32: a field m of a filter whose
// largest field is max passes iff
//
//	float32(m)/float32(max) > float32(theta)
//
// so that a stored 0.3 is not above a theta of 0.3. The same float32 quotients
// are kept as [Filter.Ratios] and become the scores of connections; label sets,
// clipped matrices and masks can therefore never disagree by a rounding.
//
// Nor do they depend on how fast the fields were formed. A field is the float64 sum of
// its products, rounded once ([FieldMatrix]). Layers are analysed with float32 sums,
// whose error is bounded; the few fields that the bound leaves in doubt are formed
// again exactly, so every result is that of exact fields, on every machine.
package afcc
