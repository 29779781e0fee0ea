package inspect

import "testing"

func TestLayerName(t *testing.T) {
	m := &Model{Layers: []Layer{
		{Name: "/features/features.0/Conv", Op: "Conv"}, {Name: "/features/features.1/BatchNormalization", Op: "BatchNormalization"},
		{Name: "/features/features.10/Conv", Op: "Conv"}, {Name: "/a/block/Conv", Op: "Conv"}, {Name: "/b/block/Conv", Op: "Conv"},
		{Name: "/classifier/Gemm", Op: "Gemm"}, {Name: "head", Op: "MatMul"}, {Name: "conv1", Op: "Conv"},
	}}
	for s, want := range map[string]string{
		"/features/features.0/Conv": "/features/features.0/Conv",
		"features.0":                "/features/features.0/Conv",
		"features/features.10":      "/features/features.10/Conv",
		"eatures.0":                 "eatures.0", // not a whole component
		"block":                     "block",     // two layers
		"a/block":                   "/a/block/Conv",
		"conv1":                     "conv1", // a name comes before an ordinal
		"conv2":                     "/features/features.10/Conv",
		"conv6":                     "conv6",
		"conv0":                     "conv0",
		"fc1":                       "/classifier/Gemm",
		"fc2":                       "head",
		"fc3":                       "fc3",
		"":                          "",
	} {
		if got := m.LayerName(s); got != want {
			t.Errorf("LayerName(%q) = %q, want %q", s, got, want)
		}
	}
}
