package inspect

// A Finding is something in a file that a person should look at.
type Finding struct {
	// Code names the kind, in lower case with hyphens ("unused-initializer").
	Code string `json:"code"`
	// Level is "error" for what no runtime can run as it stands, "warning" for
	// what runs and is wasted, slower, not portable or doubtful.
	Level string `json:"level"`
	// Node and Tensor are the labels of what it is about, "" when it is about
	// none; Scope is that of the node or tensor, as in Layer.
	Scope  string `json:"scope,omitempty"`
	Node   string `json:"node,omitempty"`
	Tensor string `json:"tensor,omitempty"`
	// Text is a sentence: what is wrong and, where it helps, what to do.
	Text string `json:"text"`
}
