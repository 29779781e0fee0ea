package plot

import (
	"errors"

	"github.com/filterlens/filterlens/afcc/probe"
)

var errUnfinished = errors.New("this kind of picture is not drawn yet")

func (f *figure) drawTheta(s Spec, r *probe.Result) error             { return errUnfinished }
func (f *figure) drawLayer(r *probe.Result, l *probe.Layer) error     { return errUnfinished }
func (f *figure) drawStability(r *probe.Result, l *probe.Layer) error { return errUnfinished }
func (f *figure) drawFilter(s Spec, r *probe.Result, l *probe.Layer, m []float32) (any, error) {
	return nil, errUnfinished
}
