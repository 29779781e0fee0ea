package afcc

// Averages holds a layer's averages over filters.
type Averages struct {
	// Nc is the number of clusters of a filter.
	Nc float64 `json:"n_c"`
	// Cs is the size of a filter's clusters: first averaged over the clusters
	// of one filter (d_f / N_c), then over filters, each filter counting once.
	Cs float64 `json:"c_s"`
	// D is the number of labels of a filter, d.
	D float64 `json:"d"`
	// N is a filter's noise n: ones outside the cluster blocks. Internal is the
	// part of it in columns of the filter's labels, External the rest.
	N        float64 `json:"n"`
	Internal float64 `json:"n_internal"`
	External float64 `json:"n_external"`
}

// Stats is a layer's row of statistics (arXiv:2309.07537), without the
// accuracy of its head.
type Stats struct {
	K     int     `json:"labels"`
	Theta float64 `json:"theta"`
	// Filters counts all filters, WithoutCluster those without a cluster, and
	// NonFinite those among the latter whose fields were not finite.
	Filters        int `json:"filters"`
	WithoutCluster int `json:"without_cluster"`
	NonFinite      int `json:"non_finite"`
	// Mean averages over the filters that have a cluster, MeanAll over all
	// filters (a filter without a cluster counts as N_c = C_s = d = 0, with the
	// noise that it has). Both are zero when there is nothing to average.
	Mean    Averages `json:"mean"`
	MeanAll Averages `json:"mean_all"`
	// Signal is S = sum_f d_f / K: in how many filters a label has a cluster.
	Signal float64 `json:"signal"`
	// NoiseInternal is N_int = sum_f sum_clusters C(C-1) / (K(K-1)), from the
	// wrong outputs inside blocks; NoiseExternal is N_ext = sum_f n_f / (K(K-1)),
	// from the ones outside them. They split a filter's wrong outputs at the
	// blocks, whereas Averages.Internal and Averages.External split n_f at the
	// columns of its labels. Both are 0 for K = 1.
	NoiseInternal float64 `json:"noise_internal"`
	NoiseExternal float64 `json:"noise_external"`
	// SNR is S / (N_int + N_ext) and SNRExternal S / N_ext. They are nil, null
	// in JSON, when the noise is 0: the ratio is then infinite, or without
	// meaning where Signal is 0 too.
	SNR         *float64 `json:"snr"`
	SNRExternal *float64 `json:"snr_external"`
}

// Summarize computes the statistics of a layer from its filters, which were
// analysed with k labels at theta.
func Summarize(filters []Filter, k int, theta float64) Stats {
	c := make([]counts, len(filters))
	for i := range filters {
		c[i] = count(&filters[i])
	}
	return summarize(c, k, theta)
}

// counts is what a filter contributes to the statistics of its layer.
type counts struct {
	clusters, labels, noise, internal, external int
	inside                                      int // wrong outputs inside blocks
	nonFinite                                   bool
}

func count(f *Filter) counts {
	c := counts{
		clusters: len(f.Clusters), labels: f.D(),
		noise: f.Noise, internal: f.Internal, external: f.External,
		nonFinite: f.NonFinite,
	}
	for _, labels := range f.Clusters {
		c.inside += len(labels) * (len(labels) - 1)
	}
	return c
}

func summarize(filters []counts, k int, theta float64) Stats {
	s := Stats{K: k, Theta: theta, Filters: len(filters)}
	var with, all Averages
	labels, inside, noise := 0, 0, 0
	for _, f := range filters {
		a := Averages{
			Nc:       float64(f.clusters),
			D:        float64(f.labels),
			N:        float64(f.noise),
			Internal: float64(f.internal),
			External: float64(f.external),
		}
		if f.nonFinite {
			s.NonFinite++
		}
		if f.clusters == 0 {
			s.WithoutCluster++
		} else {
			a.Cs = a.D / a.Nc
			with.add(a)
		}
		all.add(a)
		labels += f.labels
		noise += f.noise
		inside += f.inside
	}
	s.Mean = with.over(s.Filters - s.WithoutCluster)
	s.MeanAll = all.over(s.Filters)
	if k > 0 {
		s.Signal = float64(labels) / float64(k)
	}
	if k > 1 {
		pairs := float64(k) * float64(k-1)
		s.NoiseInternal = float64(inside) / pairs
		s.NoiseExternal = float64(noise) / pairs
	}
	// The quotients of the counts, which round only once.
	s.SNR = quotient(labels*(k-1), inside+noise)
	s.SNRExternal = quotient(labels*(k-1), noise)
	return s
}

func quotient(a, b int) *float64 {
	if b == 0 {
		return nil
	}
	q := float64(a) / float64(b)
	return &q
}

func (a *Averages) add(b Averages) {
	a.Nc += b.Nc
	a.Cs += b.Cs
	a.D += b.D
	a.N += b.N
	a.Internal += b.Internal
	a.External += b.External
}

func (a Averages) over(n int) Averages {
	if n == 0 {
		return Averages{}
	}
	d := float64(n)
	return Averages{a.Nc / d, a.Cs / d, a.D / d, a.N / d, a.Internal / d, a.External / d}
}
