package report

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/dataset"
)

// EvaluationSchema names the form of Evaluations as JSON.
const EvaluationSchema = "filterlens.eval/1"

// Evaluations is what `eval` writes as JSON.
type Evaluations struct {
	Schema string `json:"schema"`
	// Data is the path of the data set, Split the name of the samples used,
	// SHA256 the hash of their names and labels.
	Data          string           `json:"data"`
	Format        string           `json:"format"`
	Labels        int              `json:"labels"`
	Split         string           `json:"split"`
	SHA256        string           `json:"sha256,omitempty"`
	Preprocess    string           `json:"preprocess"`
	Seed          uint64           `json:"seed"`
	Engine        string           `json:"engine"`
	EngineVersion string           `json:"engine_version"`
	Provider      string           `json:"provider"`
	Models        []EvaluatedModel `json:"models"`
	// Skipped names what of the data is not used.
	Skipped  []dataset.Skipped `json:"skipped,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
}

// An EvaluatedModel is one row of Evaluations.
type EvaluatedModel struct {
	File string `json:"file"`
	probe.Evaluation
}

// FromEvaluations shows how well and how fast models answer.
func FromEvaluations(e *Evaluations) Document {
	s := Section{Facts: []Fact{
		{"data", Words(e.Data + " (" + e.Format + ")")},
		{"labels", Count(int64(e.Labels))},
		{"preprocessing", Words(e.Preprocess)},
		{"samples", Words(splitText(e))},
		{"run on", Words(evaluatedOn(e))},
	}}
	cols := []Column{
		{Title: "model", Key: "file", Shrink: true},
		{Title: "samples", Key: "samples", Right: true, Drop: 2},
		{Title: "top-1", Key: "top1", Right: true},
		{Title: "top-5", Key: "top5", Right: true},
	}
	several := len(e.Models) > 1
	if several {
		cols = append(cols, Column{Title: "changed", Key: "changed", Right: true})
	}
	cols = append(cols,
		Column{Title: "latency ms", Key: "latency_median_ms", Right: true},
		Column{Title: "p10", Key: "latency_p10_ms", Right: true, Drop: 3},
		Column{Title: "p90", Key: "latency_p90_ms", Right: true, Drop: 3},
		Column{Title: "images/s", Key: "images_per_second", Right: true, Drop: 1},
		Column{Title: "nodes", Key: "nodes", Sparse: several, Hidden: !several, Drop: 4},
		Column{Title: "engine", Key: "engine", Hidden: true},
		Column{Title: "engine version", Key: "engine_version", Hidden: true},
		Column{Title: "provider", Key: "provider", Hidden: true},
	)
	t := &Table{Main: true, Columns: cols}
	batch, runs := 0, 0
	for _, m := range e.Models {
		row := []Cell{fileName(e, m.File), Count(int64(m.Samples)), Share(m.Top1), optional(m.Top5, Share, unread)}
		if several {
			row = append(row, optional(m.Changed, Share, unread))
		}
		latency := []Cell{unread, unread, unread}
		if m.Latency != nil {
			runs = m.Latency.Runs
			latency = []Cell{milliseconds(m.Latency.Median), milliseconds(m.Latency.Low), milliseconds(m.Latency.High)}
		}
		rate := unread
		if m.Throughput != nil && m.Throughput.Median > 0 {
			batch = m.Throughput.Batch
			v := 1000 / m.Throughput.Median
			rate = Cell{Text: digits(v, 4), Raw: v}
		}
		t.Rows = append(t.Rows, append(append(row, latency...), rate, Words(nodesText(m.Nodes)), Words(e.Engine), Words(e.EngineVersion), Words(e.Provider)))
	}
	s.Table = t
	s.Notes = []string{
		"top-1, top-5: share of samples whose label has the largest output, or is among the five largest; - for fewer than six labels",
		fmt.Sprintf("latency: one sample at a time, median, 10th and 90th percentile of %d runs; images/s: median over batches of %d; both without decoding", runs, batch),
	}
	if several {
		s.Notes = append(s.Notes, "changed: share of samples whose answer differs from that of the first model; nodes: of the model, by the provider that runs them")
	}
	return Document{Title: "Evaluation", Warnings: e.Warnings, Sections: []Section{s}}
}

// evaluatedOn says what ran the models, and the nodes of a single one.
func evaluatedOn(e *Evaluations) string {
	if len(e.Models) == 1 {
		return runOn(e.Engine, e.EngineVersion, e.Provider, e.Models[0].Nodes, e.Models[0].Elsewhere)
	}
	return runOn(e.Engine, e.EngineVersion, e.Provider, nil, nil)
}

// nodesText writes "118 cuda, 4 cpu", the provider with most nodes first.
func nodesText(nodes map[string]int) string {
	names := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int { return cmp.Or(nodes[b]-nodes[a], strings.Compare(a, b)) })
	for i, p := range names {
		names[i] = fmt.Sprintf("%s %s", grouped(int64(nodes[p])), p)
	}
	return strings.Join(names, ", ")
}

// fileName returns the cell of a path; short, the folders go, unless that makes
// two models look the same.
func fileName(e *Evaluations, path string) Cell {
	c := Words(path)
	base := filepath.Base(path)
	for _, m := range e.Models {
		if m.File != path && filepath.Base(m.File) == base {
			return c
		}
	}
	c.Short = base
	return c
}

func splitText(e *Evaluations) string {
	n := 0
	if len(e.Models) > 0 {
		n = e.Models[0].Samples
	}
	s := fmt.Sprintf("%s, %s", e.Split, plural(n, "sample"))
	if e.SHA256 != "" {
		s += fmt.Sprintf(", seed %d, sha256 %s", e.Seed, shortHash(e.SHA256))
	}
	return s
}
