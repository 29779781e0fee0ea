package probe

// A Pair is a tap of one model, A, and its counterpart in another, B.
type Pair struct {
	A, B *Tap
	// Filters holds for each filter of A its place in B, -1 where it has none; nil
	// says that all stay where they are.
	Filters []int
}
