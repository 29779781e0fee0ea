package probe

// Answers compares what two models answer to the same samples. An answer is the
// label with the largest output, the first of equal ones; outputs with a NaN are no
// answer, which is wrong and agrees with nothing.
type Answers struct {
	Samples int `json:"samples"`
	// A and B are the two models' own results.
	A Evaluation `json:"a"`
	B Evaluation `json:"b"`
	// Agree counts the samples that both answer alike, right or wrong.
	Agree int `json:"agree"`
	// Every sample is one of these.
	BothRight int `json:"both_right"`
	OnlyA     int `json:"only_a_right"`
	OnlyB     int `json:"only_b_right"`
	BothWrong int `json:"both_wrong"`
	// P is the two-sided exact p-value of the hypothesis that both models are right
	// equally often: the binomial test of OnlyA among OnlyA + OnlyB (McNemar 1947,
	// exact form); 1 where both are zero.
	P float64 `json:"p_value"`
	// MaxDiff is the largest |b-a| of an output of the samples, RelDiff that by the
	// largest |a|; nil where none is finite.
	MaxDiff *float64 `json:"max_output_diff"`
	RelDiff *float64 `json:"rel_output_diff"`
	// Flips lists the samples whose answers differ, in the order of the data.
	Flips []Flip `json:"flips"`
	// PerLabel has an entry for each label.
	PerLabel []LabelAnswers `json:"per_label"`
}

// A Flip is a sample that two models answer differently.
type Flip struct {
	// Sample is its number in the data set, ID its name there.
	Sample int    `json:"sample"`
	ID     string `json:"id"`
	Label  int    `json:"label"`
	// A and B are the answers, -1 for none, MarginA and MarginB the softmax
	// probability of the answer less that of the other model's answer.
	A       int      `json:"a"`
	B       int      `json:"b"`
	MarginA *float64 `json:"margin_a"`
	MarginB *float64 `json:"margin_b"`
}

// LabelAnswers counts the samples of one label.
type LabelAnswers struct {
	Samples int `json:"samples"`
	RightA  int `json:"right_a"`
	RightB  int `json:"right_b"`
	// Flips counts those whose answers differ.
	Flips int `json:"flips"`
}
