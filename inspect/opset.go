package inspect

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// A schema is an operator of the standard, with its versions from the oldest on.
type schema struct {
	domain, name string
	versions     []schemaVersion
}

// A schemaVersion holds from an operator set's version on until the next one.
// It takes minIn to maxIn inputs and gives minOut to maxOut outputs; a maximum
// of -1 is no limit.
type schemaVersion struct {
	since                        int16
	minIn, maxIn, minOut, maxOut int16
	deprecated                   bool
	// required has bit n for input n when an empty name may not stand for it.
	required uint64
	// types has a mask for each input: bit n for tensors of type n, bit 0 for
	// whatever else is allowed. The last one holds for all inputs that follow.
	types []uint64
	// parameters has a letter for each input, the last one as in types: those of
	// one letter have the same type, those of '-' any.
	parameters string
	// attributes are names and types, with a '!' behind those that must be given:
	// "axis:2! keepdims:2". The types are those of AttributeProto.
	attributes string
}

// An attributeRule is what a version of an operator says of an attribute.
type attributeRule struct {
	name     string
	kind     onnxpb.AttributeProto_AttributeType
	required bool
}

// rules yields the attributes of v.
func (v *schemaVersion) rules() iter.Seq[attributeRule] {
	return func(yield func(attributeRule) bool) {
		for field := range strings.FieldsSeq(v.attributes) {
			name, kind, _ := strings.Cut(field, ":")
			kind, must := strings.CutSuffix(kind, "!")
			k, _ := strconv.Atoi(kind)
			if !yield(attributeRule{name, onnxpb.AttributeProto_AttributeType(k), must}) {
				return
			}
		}
	}
}

// rule finds an attribute of v.
func (v *schemaVersion) rule(name string) (r attributeRule, ok bool) {
	for r := range v.rules() {
		if r.name == name {
			return r, true
		}
	}
	return r, false
}

// mistyped returns the first attribute of n, a node of a standard operator, that
// has another type than its version says, and what that says.
func (v *schemaVersion) mistyped(n *Node) (*onnxpb.AttributeProto, attributeRule) {
	for _, a := range n.Proto.GetAttribute() {
		// Old files do not say of which type an attribute is, and in a function the
		// node that calls it does.
		if a.GetType() == onnxpb.AttributeProto_UNDEFINED || a.GetRefAttrName() != "" {
			continue
		}
		if r, ok := v.rule(a.GetName()); ok && r.kind != a.GetType() {
			return a, r
		}
	}
	return nil, attributeRule{}
}

// A release is one of ONNX, with the newest IR version it reads and the newest
// versions of its operator sets.
type release struct {
	version                   string
	ir, standard, ml, preview int64
}

const (
	mlDomain       = "ai.onnx.ml"
	trainingDomain = "ai.onnx.preview.training"
)

// schemaOf finds an operator of the standard, nil when no version has it.
func schemaOf(domain, name string) *schema {
	i, ok := slices.BinarySearchFunc(schemas, [2]string{plainDomain(domain), name}, func(s schema, key [2]string) int {
		return cmp.Or(cmp.Compare(s.domain, key[0]), cmp.Compare(s.name, key[1]))
	})
	if !ok {
		return nil
	}
	return &schemas[i]
}

// at returns the version that holds when the operator set is imported at
// version opset, nil when the operator is younger.
func (s *schema) at(opset int64) *schemaVersion {
	for i := len(s.versions) - 1; i >= 0; i-- {
		if int64(s.versions[i].since) <= opset {
			return &s.versions[i]
		}
	}
	return nil
}

func (r *release) opset(domain string) int64 {
	switch plainDomain(domain) {
	case "":
		return r.standard
	case mlDomain:
		return r.ml
	case trainingDomain:
		return r.preview
	}
	return 0
}

// newestOpset returns the newest version of an operator set that the tables
// know, 0 when they do not know the domain.
func newestOpset(domain string) int64 { return releases[len(releases)-1].opset(domain) }

// oldestIR returns the IR version of the first release of ONNX that had the
// version of an operator set; 0 when none that the tables know had it.
func oldestIR(domain string, opset int64) int64 {
	for i := range releases {
		if releases[i].opset(domain) >= opset {
			return releases[i].ir
		}
	}
	return 0
}

// newestIR returns the newest IR version that the tables know.
func newestIR() int64 { return releases[len(releases)-1].ir }

// outsideStandard tells whether some runtimes know an operator in the standard's
// own domain at versions that do not have it: the experiments that ONNX had up
// to 1.4 and then took out, and two normalisations that ONNX Runtime keeps there.
func outsideStandard(op string) bool {
	switch op {
	case "ATen", "Affine", "Caffe2ConvTranspose", "ConstantFill", "Crop", "DynamicSlice", "FC", "GRUUnit", "GivenTensorFill",
		"ImageScaler", "LoopIndexTensor", "MeanVarianceNormalization", "ParametricSoftplus", "Scale", "ScaledTanh", "SpatialBN",
		"ThresholdedRelu", "LayerNormalization", "SimplifiedLayerNormalization":
		return true
	}
	return false
}
