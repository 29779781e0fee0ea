// Package delta says what differs between two models whose files were written
// by different hands: structure, weights and filters, with names as a hint only.
//
// Compare brings both graphs to a canonical form (BatchNormalization folded,
// Gemm and MatMul one operator, constants wherever they are stored, Identity and
// Dropout gone), matches their operators, compares the weights of each pair by
// value, block by block from the files, and finds which filters of the first
// model live on in the second. It runs no model; what needs data or an engine
// may not enter, nor may the way a result is written.
package delta
