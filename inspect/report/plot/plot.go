// Package plot draws what was measured of a model's filters as pictures in SVG and
// PNG: statistics by layer and by threshold, a layer's filters by labels, a
// filter's field matrix with its clusters.
//
// The same result gives the same bytes. Nothing is measured or analysed here, and
// no file is opened. It is drawn on the canvases of gonum.org/v1/plot/vg alone: the
// package plot above them would add 5 MB to the program, mostly writers of other
// formats, and parse twelve fonts at every start.
package plot

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/report"
)

// A MissingError says that a result lacks what a picture shows.
type MissingError struct{ Word, Reason string }

func (e *MissingError) Error() string { return fmt.Sprintf("picture %q: %s", e.Word, e.Reason) }

// Write draws the picture that s asks for, which has been resolved where it names a
// layer. matrix is the field matrix (K x K, row-major; row = input label, column
// = output) when s.NeedsMatrix, else nil.
//
// The error is a *MissingError when r or matrix lacks what is shown, or that of w.
func Write(w io.Writer, s Spec, r *probe.Result, matrix []float32) error {
	faces, err := newTypefaces()
	if err != nil {
		return err
	}
	f := &figure{format: s.Format, faces: faces}
	if err := f.draw(s, r, matrix); err != nil {
		return err
	}
	return f.writeTo(w)
}

// draw draws the picture that s asks for.
func (f *figure) draw(s Spec, r *probe.Result, matrix []float32) error {
	if f.format != SVG && f.format != PNG {
		return fmt.Errorf("a picture is svg or png, not %q", f.format)
	}
	if len(r.Layers) == 0 || len(r.Data.Labels) == 0 {
		return &MissingError{s.word(), "no layer was measured"}
	}
	var l *probe.Layer
	switch s.Kind {
	case Layer, Filter, Stability:
		if l = r.Layer(s.Tensor); l == nil {
			return &MissingError{s.word(), "the layer was not measured"}
		}
	}
	switch s.Kind {
	case Theta:
		return f.drawTheta(s, r)
	case Layer:
		return f.drawLayer(s, r, l)
	case Stability:
		return f.drawStability(s, r, l)
	case Filter:
		_, err := f.drawFilter(s, r, l, matrix)
		return err
	}
	return f.drawTrend(s.Kind, r)
}

// word returns the kind with its layer and filter.
func (s Spec) word() string {
	switch {
	case s.Kind == Filter:
		return fmt.Sprintf("%s:%s/%d", s.Kind, s.Layer, s.Filter)
	case s.Layer != "":
		return fmt.Sprintf("%s:%s", s.Kind, s.Layer)
	}
	return string(s.Kind)
}

// layerName is what a layer is called in pictures.
func layerName(l *probe.Layer) string { return report.LayerName(l.Op, l.Layers...) }

// setting says what was measured, on what and at which threshold.
func setting(r *probe.Result, more ...string) string {
	parts := []string{filepath.Base(r.Model)}
	if r.Data.Path != "" {
		parts = append(parts, filepath.Base(r.Data.Path))
	}
	parts = append(parts, "K = "+counted(len(r.Data.Labels), "label"))
	return strings.Join(append(parts, more...), " · ")
}

// counted writes how many there are of something.
func counted(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return grouped(float64(n), 0) + " " + word
}
