package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/report/plot"
)

// A picture is one that --plot asks for.
type picture struct {
	plot.Spec
	word string
	out  output
	// matrix is the field matrix, where the picture shows one.
	matrix []float32
}

func plotFlag() cli.Flag {
	var kinds []string
	for _, k := range plot.Kinds() {
		kinds = append(kinds, k.Word)
	}
	return &cli.StringSliceFlag{Name: "plot", Usage: "draw a picture, `WHAT`.svg or .png, or WHAT=FILE; may be repeated. WHAT: " + strings.Join(kinds, ", "), Category: groupMeasure}
}

// picturesOf reads --plot, and refuses before any work what could not be written
// after it.
func picturesOf(c *cli.Context, inputs ...string) ([]*picture, error) {
	var list []*picture
	taken := map[string]string{}
	if o := c.String("output"); o != "" && o != "-" {
		taken[absolute(o)] = "-o " + o
	}
	for _, word := range c.StringSlice("plot") {
		spec, err := plot.Parse(word)
		if err != nil {
			return nil, badPicture(word, err)
		}
		if other, twice := taken[absolute(spec.File)]; twice {
			return nil, usage("--plot %s and %s would write the same file %s; name another as in --plot WHAT=FILE", word, other, spec.File)
		}
		taken[absolute(spec.File)] = "--plot " + word
		if !isDevice(spec.File) {
			if err := checkTarget(spec.File, append(inputs, flagFiles(c)...)...); err != nil {
				return nil, err
			}
		}
		list = append(list, &picture{Spec: spec, word: word, out: output{path: spec.File}})
	}
	return list, nil
}

// absolute returns a path by which files are told apart.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// outputPaths returns the files that flags ask to be written.
func outputPaths(c *cli.Context) (paths []string) {
	if o := c.String("output"); o != "" && o != "-" {
		paths = append(paths, o)
	}
	for _, word := range c.StringSlice("plot") {
		if spec, err := plot.Parse(word); err == nil {
			paths = append(paths, spec.File)
		}
	}
	return paths
}

// resolvePictures finds the layers that pictures show. m is nil when there is no
// model at hand, by whose layers names like conv5 go.
func resolvePictures(list []*picture, m *inspect.Model, taps []*probe.Tap) error {
	for _, p := range list {
		if m != nil && p.Layer != "" {
			if full := m.LayerName(p.Layer); slices.ContainsFunc(taps, func(t *probe.Tap) bool { return slices.Contains(t.Layers, full) }) {
				p.Layer = full
			}
		}
		if err := p.Resolve(taps); err != nil {
			return badPicture(p.word, err)
		}
	}
	return nil
}

// badPicture says why --plot asks for no picture.
func badPicture(word string, err error) error {
	var bad *plot.WordError
	if errors.As(err, &bad) {
		return usage("--plot %s: %s", word, bad.Reason)
	}
	return usage("--plot %s: %v", word, err)
}

// needMatrix tells whether a picture shows a field matrix.
func needMatrix(list []*picture) bool {
	return slices.ContainsFunc(list, func(p *picture) bool { return p.NeedsMatrix() })
}

// keepMatrix takes the field matrices of a layer that pictures show.
func keepMatrix(list []*picture, l *probe.Layer, f probe.Fields) {
	for _, p := range list {
		if p.NeedsMatrix() && p.Tensor == l.Tensor {
			p.matrix = f.Matrix(nil, p.Filter)
		}
	}
}

// writePictures writes each to its file.
func writePictures(k *console, list []*picture, res *probe.Result) error {
	for _, p := range list {
		err := p.out.write(k.stdout, func(w io.Writer) error { return plot.Write(w, p.Spec, res, p.matrix) })
		if err != nil {
			return err
		}
		if info, err := os.Stat(p.File); err == nil && info.Mode().IsRegular() {
			k.log("wrote " + p.File)
		}
	}
	return nil
}
