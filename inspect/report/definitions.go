package report

// DefinitionsSchema names the form of Definitions as JSON.
const DefinitionsSchema = "filterlens.definitions/1"

// Definitions says what every number of a measured model means.
type Definitions struct {
	Schema      string       `json:"schema"`
	Definitions []Definition `json:"definitions"`
}

// A Definition says what a word of the reports means.
type Definition struct {
	// Group is the heading under which it is listed, Term the word as it stands in
	// tables.
	Group string `json:"group"`
	Term  string `json:"term"`
	// Meaning is a sentence, Formula what it says as a formula, "" for none.
	Meaning string `json:"meaning"`
	Formula string `json:"formula,omitempty"`
	// Source is the paper, or "ours" where the papers leave it open.
	Source string `json:"source"`
}

// The sources of definitions.
const (
	universal = "arXiv 2309.07537"
	mechanism = "arXiv 2305.18078"
	pruning   = "arXiv 2501.12880"
	ours      = "ours"
)

// NewDefinitions returns all definitions, in the order in which the quantities
// build on each other.
func NewDefinitions() Definitions {
	return Definitions{Schema: DefinitionsSchema, Definitions: []Definition{
		{"What is measured", "label, K", "an output class of the model; there are K of them", "", universal},
		{"What is measured", "layer", "what a layer hands on (its tap): the tensor after convolution, BatchNorm, activation, gate, addition, concatenation and, where it ends the block, pooling", "", universal + "; gates, additions and concatenations: ours"},
		{"What is measured", "filters", "F, the channels of a tap; the hidden units of a fully connected layer are filters with one position", "", universal},
		{"What is measured", "pos", "P, the positions of a filter that the head sees: height x width of its map, after averaging (--max-side)", "P = h w", universal + "; averaging: ours"},
		{"What is measured", "samples", "three disjoint splits, drawn label by label: fit trains the heads, stats gives the label means, eval judges; each is counted and hashed", "", ours},
		{"What is measured", "head", "one linear layer without bias from a flattened tap to the K outputs, trained with everything before it frozen: cross-entropy, SGD with Nesterov momentum, L2, initial weights uniform; features over 5 times as long as the median of the samples are shortened to that in training (a head without bias answers a sample of any length alike); the model's own last layer is taken as it is", "initial weights in +-1/sqrt(F P)", universal + "; scaled features and number of epochs: ours"},
		{"What is measured", "accuracy", "share of the eval samples whose own label has the head's largest output", "", universal},
		{"What is measured", "chance", "accuracy of always answering the commonest label of the eval samples", "1/K where all labels have as many", ours},
		{"What is measured", "field", "what output j receives when every weight of the head is silenced but those of filter f", "phi_f(x,j) = sum_p W[j,f,p] a_f,p(x)", mechanism + ", " + universal},
		{"What is measured", "field matrix", "mean field of the samples of each label; row: label of the image, column: output. It is formed from label means, since the field is linear in the activations", "M_f(i,j) = mean of phi_f(x,j) over x of label i = sum_p W[j,f,p] mean a_f,p", universal + "; from label means: ours"},
		{"What is measured", "max field", "the largest entry of a filter's field matrix; a filter in which it is not above 0, or not finite, has no cluster", "max M_f", ours},
		{"What is measured", "theta", "threshold of the clipped matrix, 0.3 unless --theta says otherwise; compared strictly, in float32", "B_f(i,j) = 1 if M_f(i,j) / max M_f > theta, else 0", universal},

		{"Clusters", "clusters", "labels whose block of the clipped matrix is filled with ones, both ways; found greedily in ascending label order, disjoint; a lone one on the diagonal is a cluster of one label", "B_f(i,j) = 1 for all i, j of the cluster", universal + "; the order: ours"},
		{"Clusters", "N_c", "clusters of a filter, averaged over the filters that have one", "", universal},
		{"Clusters", "C_s", "labels of a cluster, averaged over the clusters of a filter, then over the filters that have one", "", universal},
		{"Clusters", "d", "labels in a filter's clusters, which are the ones on the diagonal of its clipped matrix, averaged over the filters that have a cluster", "d_f = |L_f| = sum of C over clusters", universal},
		{"Clusters", "n", "ones of the clipped matrix outside the clusters, averaged over the filters that have a cluster", "n_f = sum_ij B_f(i,j) - sum of C^2 over clusters", universal},
		{"Clusters", "n int", "the part of n in columns of the filter's labels, which survives AFCC", "", universal},
		{"Clusters", "n ext", "the part of n in other columns", "n ext = n - n int", universal},
		{"Clusters", "none", "filters without a cluster", "", ours},
		{"Clusters", "all filters", "the same averages over all filters; one without a cluster has N_c = C_s = d = 0, and the noise that it has", "", ours},

		{"Signal and noise of a layer", "S", "in how many filters a label has a cluster, averaged over the labels", "S = sum_f d_f / K", "after " + universal},
		{"Signal and noise of a layer", "N_int", "in how many filters a wrong output is one inside a cluster", "N_int = sum_f sum_clusters C(C-1) / (K(K-1))", "after " + universal},
		{"Signal and noise of a layer", "N_ext", "in how many filters a wrong output is one outside the clusters", "N_ext = sum_f n_f / (K(K-1))", "after " + universal},
		{"Signal and noise of a layer", "SNR", "signal to noise; - where there is no noise", "SNR = S / (N_int + N_ext)", "after " + universal},
		{"Signal and noise of a layer", "S/N_ext", "signal to external noise", "S / N_ext", "after " + universal},
		{"Signal and noise of a layer", "trend", "Spearman's rank correlation with depth: 1 when a quantity rises from each layer to the next, -1 when it falls", "", "the claim: " + universal + "; the measure: ours"},

		{"Which clusters are real (stability)", "runs", "the stats samples measured again with the same heads: 2 for two halves, more for resamples with replacement (bootstrap)", "", ours},
		{"Which clusters are real (stability)", "stable", "mean Jaccard index of a filter's label sets over pairs of runs, averaged over filters; 1 when they are the same", "|L_r and L_s| / |L_r or L_s|", "ours, after Ben-Hur, Elisseeff, Guyon (2002)"},
		{"Which clusters are real (stability)", "phi", "the same agreement corrected for chance, comparable between label sets of different size: about 0 for random ones", "1 - (1/K sum_j R/(R-1) p_j (1-p_j)) / (d/K (1-d/K)), p_j: share of the R runs with label j", "ours, after Nogueira, Sechidis, Brown (JMLR 18, 2018)"},
		{"Which clusters are real (stability)", "cluster", "mean over runs of the largest Jaccard index with a cluster of the run, averaged over clusters; 0.75 and more is called stable, below 0.5 dissolved", "", "ours, after Hennig (2007)"},
		{"Which clusters are real (stability)", "identical", "share of runs that have exactly the same cluster, averaged over clusters", "", ours},

		{"What depends on our choices", "sweep", "a layer's row at several thresholds, from the same fields", "", ours},
		{"What depends on our choices", "label order", "clusters formed anew in random orders of the labels, one order for all filters of a layer. Only N_c, C_s and n can change; d, the masks of AFCC and SNR cannot", "", ours},

		{"Answers of filters and heads", "alone", "single-filter accuracy: share of the eval samples whose own label has the largest field of that filter; a tie is no hit", "phi_f(x,y) > phi_f(x,j) for all j != y", universal + "; ties: ours"},
		{"Answers of filters and heads", "own", "the same among the samples of the filter's labels", "", ours},
		{"Answers of filters and heads", "errors", "wrong answers of the head on the eval samples; a sample for which its outputs are not numbers (NaN) has no answer and is not counted here, though accuracy counts it as wrong", "", ours},
		{"Answers of filters and heads", "pairs", "share of all pairs of labels that stand in one cluster of some filter; it is the share of errors to expect inside if the labels' names were dealt at random", "pairs / (K(K-1)/2)", ours},
		{"Answers of filters and heads", "inside", "share of the errors whose right and given label are such a pair", "", ours},
		{"Answers of filters and heads", "lift", "above 1: labels of one cluster are taken for each other more often than labels at random", "inside / pairs", ours},
		{"Answers of filters and heads", "weighted", "the same with each pair counted as often as clusters hold it; it still tells something where nearly every pair is in some cluster", "(sum over clusters of errors inside / sum C(C-1)) / (errors / (K(K-1)))", ours},
		{"Answers of filters and heads", "top samples", "the eval samples in which the mean activation over a filter's positions is largest", "", ours},

		{"Applying filters' cluster connections (AFCC)", "classifier", "the weights from filter f to output j stay where j is one of the filter's labels", "keep W[j,f,:] iff j in L_f", universal},
		{"Applying filters' cluster connections (AFCC)", "convolution", "the kernel from filter f' to filter f stays where both share a label; biases and BatchNorm stay", "keep iff L_f and L_f' have a label in common", pruning},
		{"Applying filters' cluster connections (AFCC)", "dilution", "share of the weights set to zero; a diluted dense file is neither smaller nor faster on a dense runtime", "", pruning},
	}}
}

// FromDefinitions lists definitions under their headings.
func FromDefinitions(d Definitions) Document {
	doc := Document{Title: "What the numbers mean"}
	for _, def := range d.Definitions {
		if n := len(doc.Sections); n == 0 || doc.Sections[n-1].Title != def.Group {
			doc.Sections = append(doc.Sections, Section{Title: def.Group})
		}
		s := &doc.Sections[len(doc.Sections)-1]
		text := def.Meaning
		if def.Formula != "" {
			text += ": " + def.Formula
		}
		s.Facts = append(s.Facts, Fact{def.Term, Words(text + " [" + def.Source + "]")})
	}
	return doc
}
