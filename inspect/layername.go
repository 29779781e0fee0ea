package inspect

import (
	"regexp"
	"strconv"
	"strings"
)

var ordinal = regexp.MustCompile(`^(conv|fc)([1-9][0-9]{0,4})$`)

// LayerName returns the name of the layer of the main graph that a person means by s: the name
// itself; the module path that exporters build names from, or an end of it
// ("features.40" for "/features/features.40/Conv"), when only one layer has it;
// "conv5" for the fifth convolution and "fc1" for the first fully connected
// layer, in the order in which layers run. Where nothing fits, or more than one
// layer does, it returns s.
func (m *Model) LayerName(s string) string {
	found, count := "", 0
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Scope != "" {
			continue
		}
		if l.Name == s {
			return s
		}
		path := strings.Trim(strings.TrimSuffix(l.Name, "/"+l.Op), "/")
		if s != "" && (path == s || strings.HasSuffix(path, "/"+s)) {
			found = l.Name
			count++
		}
	}
	if count == 1 {
		return found
	}
	match := ordinal.FindStringSubmatch(s)
	if match == nil || count > 1 {
		return s
	}
	n, _ := strconv.Atoi(match[2])
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Scope == "" && (l.Op == "Conv") == (match[1] == "conv") && (l.Op == "Conv" || l.Op == "Gemm" || l.Op == "MatMul") {
			if n--; n == 0 {
				return l.Name
			}
		}
	}
	return s
}
