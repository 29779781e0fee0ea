package report

import (
	"regexp"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// generated matches the names that exporters give nodes for want of better ones:
// numbers, and "node_" with an operator and a number.
var generated = regexp.MustCompile(`^(%?[0-9]+|node_.*|n[0-9]+)$`)

// Modules returns the modules that a layer is in, the outermost first, as far
// as names tell; it is empty when they tell nothing. The parts of the layer's
// scope stand before it. The rule:
//
//   - a name with slashes (PyTorch since 1.13, tf2onnx, Keras) is cut at slashes
//     and loses its last part, the operation; a part that begins with the path so
//     far, as in "/features/features.2/features.2.0/Conv", only adds its rest;
//   - a name with dots alone ("layer1.0.conv1") is cut at dots;
//   - a name with neither ("stage1_unit1_conv1_fwd", MXNet) is cut at
//     underscores and loses a last part "fwd";
//   - a name that an exporter has numbered ("", "183", "Conv_12", "node_conv2d_3")
//     is replaced by that of the layer's weight without its last part
//     ("features.0.weight" gives features, 0), if that has dots or slashes.
//
// The dots within the parts of a name with slashes are cuts as well.
func Modules(l *inspect.Layer) []string {
	path := slashed(l.Scope, false)
	name := l.Name
	if numbered(name, l) {
		name = weightModule(l.Weight)
	}
	switch {
	case strings.Contains(name, "/"):
		return append(path, slashed(name, true)...)
	case strings.Contains(name, "."):
		return append(path, parts(name, ".")...)
	}
	under := parts(name, "_")
	if n := len(under); n > 1 && under[n-1] == "fwd" {
		under = under[:n-1]
	}
	return append(path, under...)
}

// moduleName joins the first depth parts of a path.
func moduleName(path []string, depth int) string {
	return strings.Join(path[:min(depth, len(path))], ".")
}

// numbered tells whether a layer's name says nothing of a module: it has none
// of its own, or one of its operator and a number.
func numbered(name string, l *inspect.Layer) bool {
	if generated.MatchString(name) || name == "" || name == l.OutTensor && !strings.ContainsAny(name, "/._") {
		return true
	}
	rest, ok := strings.CutPrefix(name, l.Op)
	return ok && strings.Trim(rest, "_0123456789") == ""
}

// weightModule returns the module that a weight is named after, "" when it is
// not named that way.
func weightModule(weight string) string {
	if strings.Contains(weight, "/") {
		return weight // its last part is lost like that of a node
	}
	if i := strings.LastIndexByte(weight, '.'); i > 0 && !strings.Contains(weight, "::") {
		return weight[:i] + "."
	}
	return ""
}

// slashed cuts a name at slashes and dots, without repetitions and, if asked to,
// without its last part.
func slashed(name string, dropLast bool) []string {
	list := parts(name, "/")
	if dropLast && len(list) > 0 {
		list = list[:len(list)-1]
	}
	var path []string
	before := ""
	for _, p := range list {
		rest := p
		if before != "" {
			if r, ok := strings.CutPrefix(p, before+"."); ok {
				rest = r
			}
		}
		before = p
		path = append(path, parts(rest, ".")...)
	}
	return path
}

// parts cuts s at sep and leaves out what is empty.
func parts(s, sep string) []string {
	var list []string
	for p := range strings.SplitSeq(s, sep) {
		if p != "" {
			list = append(list, p)
		}
	}
	return list
}
