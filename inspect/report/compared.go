package report

import (
	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/likeness"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/delta"
)

// ComparedSchema names the form of Compared as JSON.
const ComparedSchema = "filterlens.compare/2"

// The aspects of two models that are compared, in the order of a report.
const (
	AspectMetadata    = "metadata"    // versions, producer, metadata, operator sets
	AspectNames       = "names"       // of operators
	AspectWriting     = "writing"     // other operators or types of the file for the same
	AspectInterface   = "interface"   // names, types and shapes of inputs and outputs
	AspectStructure   = "structure"   // operators, their attributes and connections
	AspectWeights     = "weights"     // numbers beyond the tolerance
	AspectFilters     = "filters"     // which of them live on, and where
	AspectAnswers     = "answers"     // what both answer to the same samples
	AspectActivations = "activations" // how far layers are apart, and how similar
	AspectStatistics  = "statistics"  // accuracy, clusters and SNR of each layer
)

// Compared is what `compare` writes of two models as JSON.
type Compared struct {
	Schema string       `json:"schema"`
	A      ComparedSide `json:"a"`
	B      ComparedSide `json:"b"`
	// Same says that no aspect that counts differs: the exit code. Verdict says
	// so in words. Counts lists the aspects that count, Differ those of them that
	// differ, Besides those that differ without counting.
	Same    bool     `json:"same"`
	Verdict string   `json:"verdict"`
	Counts  []string `json:"counts"`
	Differ  []string `json:"differ"`
	Besides []string `json:"besides,omitempty"`
	// Only lists what was asked for, Ignored what was left out: aspects and patterns
	// of names. Strict says that all aspects count, and that a type of less
	// precision is no excuse.
	Only    []string `json:"only,omitempty"`
	Ignored []string `json:"ignored,omitempty"`
	Strict  bool     `json:"strict,omitempty"`
	// Delta holds structure, weights and filters, less what Only and Ignored leave
	// out; nil when none of them was wanted, or a side is a description only.
	Delta *delta.Delta `json:"delta,omitempty"`
	// Description is there instead when a side is a saved report.
	Description *DescriptionDelta `json:"description,omitempty"`
	// Data is nil when nothing was run.
	Data       *ComparedData      `json:"data,omitempty"`
	Answers    *probe.Answers     `json:"answers,omitempty"`
	Likeness   *likeness.Likeness `json:"likeness,omitempty"`
	Statistics *StatisticsDelta   `json:"statistics,omitempty"`
	Warnings   []string           `json:"warnings,omitempty"`

	Definitions []string `json:"definitions"`
}

// A ComparedSide is one of the two models.
type ComparedSide struct {
	// File is the path given; Saved says that it is a saved report and of what: ""
	// for a model, "inspect" or "stats".
	File  string `json:"file"`
	Saved string `json:"saved,omitempty"`
	// Model is the file that a saved report is of.
	Model string `json:"model,omitempty"`
	// Bytes is the size with external data; Parameters, MACs and Layers are those
	// of inspect, nil where they are not known.
	Bytes      *int64 `json:"bytes"`
	Parameters *int64 `json:"parameters"`
	MACs       *int64 `json:"macs"`
	Layers     *int   `json:"layers"`
}

// ComparedData says on which samples models were run, and what ran them.
type ComparedData struct {
	Path   string   `json:"path"`
	Format string   `json:"format"`
	Labels []string `json:"labels"`
	Split  string   `json:"split"`
	SHA256 string   `json:"sha256,omitempty"`
	// PreprocessA and PreprocessB are what was done to an image.
	PreprocessA   string            `json:"preprocess_a"`
	PreprocessB   string            `json:"preprocess_b"`
	Seed          uint64            `json:"seed"`
	Engine        string            `json:"engine"`
	EngineVersion string            `json:"engine_version"`
	Provider      string            `json:"provider"`
	Skipped       []dataset.Skipped `json:"skipped,omitempty"`
}

// DescriptionDelta compares what saved reports tell of two models.
type DescriptionDelta struct {
	// Changes lists facts that differ, Layers what became of the layers.
	Changes []delta.Change    `json:"changes"`
	Layers  []DescribedChange `json:"layers"`
}

// A DescribedChange is what became of a layer, by its description alone.
type DescribedChange struct {
	Kind delta.Kind `json:"kind"`
	// A and B are the names of the layer, "" on the side that has none.
	A       string         `json:"a,omitempty"`
	B       string         `json:"b,omitempty"`
	Op      string         `json:"op"`
	Changes []delta.Change `json:"changes,omitempty"`
}

// StatisticsDelta holds the statistics of two models side by side.
type StatisticsDelta struct {
	// Theta is the threshold of both.
	Theta     float64  `json:"theta"`
	MeasuredA Measured `json:"measured_a"`
	MeasuredB Measured `json:"measured_b"`
	// Otherwise says what decides the numbers and is different beside the model, ""
	// for nothing.
	Otherwise string `json:"otherwise,omitempty"`
	// Fit trained the heads, Stats gave the label means, Eval the accuracies: the
	// splits of A, and of B unless Otherwise says so.
	Fit   probe.Part `json:"fit"`
	Stats probe.Part `json:"stats"`
	Eval  probe.Part `json:"eval"`
	// Layers pairs the layers measured.
	Layers   []StatisticsPair `json:"layers"`
	Unpaired []probe.Skip     `json:"unpaired,omitempty"`
}

// A StatisticsPair is a layer of A and its counterpart in B.
type StatisticsPair struct {
	// LayerDifferences names A's layer; filters are compared with those that they
	// have become in B.
	probe.LayerDifferences
	Op string `json:"op"`
	// LayerB and TensorB are the names in B.
	LayerB  string `json:"layer_b"`
	TensorB string `json:"tensor_b"`
	// A and B are the rows of both.
	A StatisticsRow `json:"a"`
	B StatisticsRow `json:"b"`
}

// A StatisticsRow is what afcc.Stats says of a layer, and the accuracy of its head.
type StatisticsRow struct {
	Filters  int      `json:"filter_count"`
	Accuracy float64  `json:"accuracy"`
	Clusters *float64 `json:"n_c"`
	Size     *float64 `json:"c_s"`
	Labels   *float64 `json:"d"`
	Noise    *float64 `json:"n"`
	SNR      *float64 `json:"snr"`
}
