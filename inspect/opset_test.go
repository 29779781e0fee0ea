package inspect

import (
	"cmp"
	"slices"
	"testing"
)

// The facts are those of the published change log of the operators.
func TestSchemas(t *testing.T) {
	for _, c := range []struct {
		domain, op string
		opset      int64
		since      int16 // 0: younger than opset
		deprecated bool
		minIn      int16
		maxIn      int16
	}{
		{"", "Upsample", 9, 9, false, 2, 2},
		{"", "Upsample", 10, 10, true, 2, 2},
		{"", "Upsample", 13, 10, true, 2, 2},
		{"", "Upsample", 8, 7, false, 1, 1}, // the scales were an attribute
		{"", "Scatter", 10, 9, false, 3, 3},
		{"", "Scatter", 11, 11, true, 3, 3},
		{"", "Gelu", 19, 0, false, 0, 0},
		{"", "Gelu", 20, 20, false, 1, 1},
		{"ai.onnx", "Gelu", 21, 20, false, 1, 1},
		{"", "Resize", 9, 0, false, 0, 0},
		{"", "Resize", 10, 10, false, 2, 2},
		{"", "Resize", 11, 11, false, 3, 4},
		{"", "Resize", 18, 18, false, 1, 4},
		{"", "LayerNormalization", 16, 0, false, 0, 0},
		{"", "LayerNormalization", 17, 17, false, 2, 3},
		{"", "GroupNormalization", 18, 18, true, 3, 3},
		{"", "GroupNormalization", 21, 21, false, 3, 3},
		{"", "BatchNormalization", 7, 7, false, 5, 5},
		{"", "Squeeze", 11, 11, false, 1, 1},
		{"", "Squeeze", 13, 13, false, 1, 2}, // the axes became an input
		{"", "Concat", 13, 13, false, 1, -1},
		{"", "Loop", 1, 1, false, 3, -1},
		{"", "Loop", 11, 11, false, 2, -1},
		{"", "Conv", 100, 22, false, 2, 3},
		{"ai.onnx.ml", "TreeEnsembleClassifier", 5, 5, true, 1, 1},
		{"ai.onnx.ml", "TreeEnsemble", 4, 0, false, 0, 0},
		{"ai.onnx.preview.training", "Adam", 1, 1, false, 3, -1},
	} {
		s := schemaOf(c.domain, c.op)
		if s == nil {
			t.Errorf("%s %s is not there", c.domain, c.op)
			continue
		}
		v := s.at(c.opset)
		if v == nil {
			if c.since != 0 {
				t.Errorf("%s at %d: not there yet, want the version of %d", c.op, c.opset, c.since)
			}
			continue
		}
		if v.since != c.since || v.deprecated != c.deprecated || v.minIn != c.minIn || v.maxIn != c.maxIn {
			t.Errorf("%s at %d: %+v, want %+v", c.op, c.opset, *v, c)
		}
	}
	for _, op := range []string{"NoSuch", "conv", "", "ATen"} {
		if schemaOf("", op) != nil {
			t.Errorf("%q is an operator", op)
		}
	}
}

func TestReleases(t *testing.T) {
	for _, c := range []struct {
		domain    string
		opset, ir int64
	}{
		{"", 1, 3}, {"", 8, 3}, {"", 9, 4}, {"", 10, 5}, {"", 11, 6}, {"", 12, 7}, {"", 13, 7}, {"", 14, 7}, {"", 15, 8}, {"", 18, 8},
		{"", 19, 9}, {"", 21, 10}, {"", 23, 11}, {mlDomain, 1, 3}, {mlDomain, 2, 6}, {mlDomain, 3, 8}, {trainingDomain, 1, 7},
		{"", 1000, 0}, {"com.example", 1, 0},
	} {
		if ir := oldestIR(c.domain, c.opset); ir != c.ir {
			t.Errorf("%q %d: IR version %d, want %d", c.domain, c.opset, ir, c.ir)
		}
	}
	if newestOpset("") < 28 || newestIR() < 14 {
		t.Errorf("the newest known are %d and %d", newestOpset(""), newestIR())
	}
}

func TestSchemasSorted(t *testing.T) {
	if !slices.IsSortedFunc(schemas, func(a, b schema) int {
		return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.name, b.name))
	}) {
		t.Error("binary search needs them sorted")
	}
	for _, s := range schemas {
		for i, v := range s.versions {
			inputs := len(v.types)
			if len(v.parameters) != inputs || v.maxIn >= 0 && int(v.maxIn) != inputs || v.maxIn != 0 && inputs == 0 {
				t.Errorf("%s at %d: %d inputs, %d types, parameters %q", s.name, v.since, v.maxIn, inputs, v.parameters)
			}
			if i > 0 && v.since <= s.versions[i-1].since || v.maxIn >= 0 && v.maxIn < v.minIn || v.maxOut >= 0 && v.maxOut < v.minOut {
				t.Errorf("%s: %+v", s.name, s.versions)
			}
		}
	}
}
