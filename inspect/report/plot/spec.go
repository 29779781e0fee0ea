package plot

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/report"
)

// A Kind is what a picture shows.
type Kind string

// The kinds. Those up to Depth show numbers by layer.
const (
	SNR       Kind = "snr"
	Accuracy  Kind = "accuracy"
	Clusters  Kind = "nc"
	Size      Kind = "cs"
	Labels    Kind = "d"
	Noise     Kind = "n"
	Depth     Kind = "depth"
	Theta     Kind = "theta"
	Layer     Kind = "layer"
	Filter    Kind = "filter"
	Stability Kind = "stability"
)

// A KindHelp is a line of help.
type KindHelp struct{ Word, Text string }

// Kinds lists the pictures there are, each as it is asked for.
func Kinds() []KindHelp {
	return []KindHelp{
		{"snr", "SNR and accuracy of the heads by layer"},
		{"accuracy", "accuracy of the heads by layer"},
		{"nc", "clusters of a filter by layer"},
		{"cs", "labels in a cluster by layer"},
		{"d", "labels of a filter by layer"},
		{"n", "noise of a filter by layer"},
		{"depth", "all of these"},
		{"theta", "what the threshold changes, all layers"},
		{"theta:LAYER", "the same for one layer"},
		{"layer:LAYER", "map of a layer's filters by labels"},
		{"filter:LAYER/N", "field matrix of a filter, before and after clipping"},
		{"stability:LAYER", "how well filters agree between repeated measurements"},
	}
}

// The formats of a picture.
const (
	SVG = "svg"
	PNG = "png"
)

// A Spec is a picture that was asked for.
type Spec struct {
	Kind Kind
	// Layer is the layer or tensor as it was typed, "" for all; Tensor, once
	// Resolve has found it, is the tap's tensor.
	Layer  string
	Tensor string
	// Filter is the number of a filter in its layer, for the kind of that name.
	Filter int
	// Format is SVG or PNG, File the path to write.
	Format string
	File   string
}

// A WordError says why a word asks for no picture.
type WordError struct{ Word, Reason string }

func (e *WordError) Error() string { return fmt.Sprintf("picture %q: %s", e.Word, e.Reason) }

// Parse reads a word that asks for a picture: a kind of Kinds, with its layer and
// filter, and the file format as its ending, like "snr.svg" and
// "filter:conv10/37.png". Such a picture is written to the current folder, to a
// file that is called like the word with what a file's name should not hold
// replaced ("filter-conv10-37.png"). KIND=PATH chooses the file, as in
// "snr=out/trend.svg"; the kind ends at the first equals sign that makes sense.
// The error is a *WordError.
func Parse(word string) (Spec, error) {
	for i, r := range word {
		if r != '=' {
			continue
		}
		s, err := parseKind(word, word[:i])
		if err != nil {
			continue
		}
		s.File = word[i+1:]
		before, format, err := cutFormat(word, s.File)
		if err != nil {
			return Spec{}, err
		}
		if before == "" || strings.HasSuffix(before, "/") {
			return Spec{}, &WordError{word, "the name of the file is missing"}
		}
		s.Format = format
		return s, nil
	}
	kind, format, err := cutFormat(word, word)
	if err != nil {
		return Spec{}, err
	}
	s, err := parseKind(word, kind)
	if err != nil {
		return Spec{}, err
	}
	s.Format, s.File = format, fileName(kind)+"."+format
	return s, nil
}

// cutFormat parts a path at its ending.
func cutFormat(word, path string) (before, format string, err error) {
	ending := filepath.Ext(path)
	format = strings.ToLower(strings.TrimPrefix(ending, "."))
	if format != SVG && format != PNG {
		return "", "", &WordError{word, "its ending must be .svg or .png, the format it is written in"}
	}
	return strings.TrimSuffix(path, ending), format, nil
}

// parseKind reads what stands before the ending.
func parseKind(word, kind string) (Spec, error) {
	name, rest, of := strings.Cut(kind, ":")
	s := Spec{Kind: Kind(strings.ToLower(name)), Layer: rest}
	fail := func(format string, a ...any) (Spec, error) {
		return Spec{}, &WordError{word, fmt.Sprintf(format, a...)}
	}
	switch s.Kind {
	case SNR, Accuracy, Clusters, Size, Labels, Noise, Depth:
		if of {
			return fail("%s is of all layers; leave out :%s", s.Kind, rest)
		}
	case Theta:
		if of && rest == "" {
			return fail("the layer is missing; write theta:LAYER, or theta alone for all layers")
		}
	case Layer, Stability:
		if rest == "" {
			return fail("the layer is missing; write %s:LAYER", s.Kind)
		}
	case Filter:
		i := strings.LastIndexByte(rest, '/')
		n, err := strconv.Atoi(rest[i+1:])
		if i < 1 || err != nil || n < 0 {
			return fail("write filter:LAYER/N with the filter's number, from 0")
		}
		s.Layer, s.Filter = rest[:i], n
	default:
		if base := filepath.Base(filepath.FromSlash(kind)); !of && base != kind {
			if _, err := parseKind(word, base); err == nil {
				return fail("to choose the file, write %s=%s", base, word)
			}
		}
		var words []string
		for _, k := range Kinds() {
			words = append(words, k.Word)
		}
		return fail("there is no such kind; the kinds are %s", strings.Join(words, ", "))
	}
	return s, nil
}

// fileName replaces in a kind what is not safe in the name of a file.
func fileName(kind string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '-'
		}
		return r
	}, kind)
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	// Many file systems end names at 255 bytes. The end holds the filter.
	if r := []rune(name); len(r) > 60 {
		name = string(r[:20]) + "-" + string(r[len(r)-39:])
	}
	return strings.Trim(name, "-.")
}

// NeedsSweep tells whether the picture shows probe.Layer.Sweep.
func (s Spec) NeedsSweep() bool { return s.Kind == Theta }

// NeedsStability tells whether the picture shows probe.Layer.Stability.
func (s Spec) NeedsStability() bool { return s.Kind == Stability }

// NeedsMatrix tells whether Write must be given the field matrix of the filter
// s.Filter of the tap s.Tensor, which a probe.Result does not hold.
func (s Spec) NeedsMatrix() bool { return s.Kind == Filter }

// Resolve finds the tap that s.Layer names among those that are measured, by the
// name of a layer, of the tensor, or as reports call it where there is little
// room ("features.40.0"), and sets s.Tensor. The error is a
// *probe.UnknownLayerError or, for a short name of several layers or a filter
// that the layer does not have, a *WordError.
func (s *Spec) Resolve(taps []*probe.Tap) error {
	if s.Layer == "" {
		return nil
	}
	var found []*probe.Tap
	add := func(is func(*probe.Tap) bool) {
		if len(found) > 0 {
			return
		}
		for _, t := range taps {
			if is(t) {
				found = append(found, t)
			}
		}
	}
	add(func(t *probe.Tap) bool { return t.Tensor == s.Layer })
	add(func(t *probe.Tap) bool { return slices.Contains(t.Layers, s.Layer) })
	add(func(t *probe.Tap) bool {
		return report.LayerName(t.Op, t.Layers...) == s.Layer ||
			slices.ContainsFunc(t.Layers, func(l string) bool { return report.LayerName(t.Op, l) == s.Layer })
	})
	word := fmt.Sprintf("%s:%s", s.Kind, s.Layer)
	switch {
	case len(found) == 0:
		e := &probe.UnknownLayerError{Layer: s.Layer}
		for _, t := range taps {
			e.Known = append(e.Known, t.Layers...)
		}
		return e
	case len(found) > 1:
		return &WordError{word, fmt.Sprintf("that may be %q or %q; write the whole name", found[0].Name(), found[1].Name())}
	case s.Kind == Filter && s.Filter >= found[0].Filters:
		return &WordError{word, fmt.Sprintf("the layer has %d filters, numbered from 0 to %d; there is no filter %d", found[0].Filters, found[0].Filters-1, s.Filter)}
	}
	s.Tensor = found[0].Tensor
	return nil
}
