package delta

// FilterCounts counts filters by kind.
type FilterCounts struct {
	Kept    int `json:"kept"`
	Moved   int `json:"moved"`
	Scaled  int `json:"scaled"`
	Changed int `json:"changed"`
	Gone    int `json:"gone"`
	New     int `json:"new"`
	// Unclear counts those of any kind for which another partner is as likely.
	Unclear int `json:"unclear"`
}

func (c *FilterCounts) add(o *FilterCounts) {
	c.Kept += o.Kept
	c.Moved += o.Moved
	c.Scaled += o.Scaled
	c.Changed += o.Changed
	c.Gone += o.Gone
	c.New += o.New
	c.Unclear += o.Unclear
}

// A FilterDelta says which filters of a layer of A live on in B: the assignment of
// one to the other by the similarity of their weights, after the channels that
// they read have been put into the order found for the layers before. Filters that
// their own weights do not tell apart are told apart by the layers that read them
// or add to them, as far as these can.
type FilterDelta struct {
	// CountA and CountB are the numbers of filters.
	CountA int `json:"count_a"`
	CountB int `json:"count_b"`
	FilterCounts
	// KeptIndices lists A's filters that live on, in the order of B's filters, of
	// any kind but gone: filter KeptIndices[k] of A is the k-th of those in B that
	// are not new.
	KeptIndices []int `json:"kept_indices"`
	// InOrder tells whether KeptIndices ascends.
	InOrder bool `json:"in_order"`
	// Filters lists those that are not kept at their index: of A in ascending
	// order, then the new ones.
	Filters []Filter `json:"filters,omitempty"`
	// Channels says what became of the channels that the layer reads.
	Channels ChannelDelta `json:"channels"`
	// Note says why filters were not looked for; the counts are zero then.
	Note string `json:"note,omitempty"`
}

// FilterKind says what became of a filter.
type FilterKind string

// The kinds of filters.
const (
	// FilterKept has the same weights and bias, at its index or, where filters
	// before it are gone or new, in its order.
	FilterKept FilterKind = "kept"
	// FilterMoved has the same weights and bias at another index, in a layer whose
	// filters stand in another order.
	FilterMoved FilterKind = "moved"
	// FilterScaled has weights that are a multiple of those in A.
	FilterScaled FilterKind = "scaled"
	// FilterChanged has other weights, of which the similarity says how near they
	// are, or another bias.
	FilterChanged FilterKind = "changed"
	FilterGone    FilterKind = "gone" // no filter of B is similar
	FilterNew     FilterKind = "new"  // no filter of A is similar
)

// A Filter is what became of one filter.
type Filter struct {
	Kind FilterKind `json:"kind"`
	// From is its index in A, To that in B; nil where it has none.
	From *int `json:"from"`
	To   *int `json:"to"`
	// Similarity is the cosine of its weights in A and B, over the channels that
	// live on; of a filter that is gone, that of the nearest that was looked at.
	// It is nil where all weights of one side are zero.
	Similarity *float64 `json:"similarity,omitempty"`
	// Scale is what the weights are multiplied by in B, of a scaled filter.
	Scale *float64 `json:"scale,omitempty"`
	// BiasChanged says that the bias differs by more than the tolerance; of a
	// scaled filter, from the scaled one.
	BiasChanged bool `json:"bias_changed,omitempty"`
	// Unclear says that the filters of B in Candidates are as similar, or that
	// other filters of A are as similar to the one in B: their cosines differ by
	// less than 0.02, and the better one is not half as far from 1. To is then a
	// choice: the same index, else the order.
	Unclear    bool  `json:"unclear,omitempty"`
	Candidates []int `json:"candidates,omitempty"`
}

// A ChannelDelta says what became of the channels that a layer reads.
type ChannelDelta struct {
	CountA int `json:"count_a"`
	CountB int `json:"count_b"`
	// Gone counts those of A that no channel of B stands for, New those of B.
	Gone int `json:"gone"`
	New  int `json:"new"`
	// InOrder tells whether those that live on stand in the order of A.
	InOrder bool `json:"in_order"`
	// Assumed says that it is not known where the channels come from and that
	// their order was taken to be the same.
	Assumed bool `json:"assumed,omitempty"`
	// Scaled says that the weights were compared with the scales of the filters
	// before taken back out.
	Scaled bool `json:"scaled,omitempty"`
	// Ignored says that the weights are those of A by place although the channels
	// stand in another order.
	Ignored bool `json:"ignored,omitempty"`
}
