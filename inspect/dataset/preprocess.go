package dataset

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Preprocess says how images become values, whatever model they are for. The
// zero value is "unit": values/255, scaled to the model's input.
type Preprocess struct {
	// Mean and Std are of values in [0,1], one a channel or one for all; nil is
	// 0 and 1. A value v of 0..255 becomes (v/255 - Mean) / Std.
	Mean, Std []float32
	// Resize is the length that the shorter side of the image gets, Crop the
	// side of the square then cut out of its centre; 0 leaves the step out.
	// Together they are scaled to a model whose input is not Crop x Crop.
	Resize, Crop int
}

func presetNames() []string { return []string{"imagenet", "signed", "unit"} }

// Preset returns a preprocessing by name:
//
//	imagenet  mean .485 .456 .406, std .229 .224 .225, resize 256, crop 224
//	          (the reference evaluation of torchvision's classifiers)
//	signed    v/127.5 - 1
//	unit      v/255
func Preset(name string) (Preprocess, error) {
	switch name {
	case "imagenet":
		return Preprocess{
			Mean:   []float32{0.485, 0.456, 0.406},
			Std:    []float32{0.229, 0.224, 0.225},
			Resize: 256, Crop: 224,
		}, nil
	case "signed":
		return Preprocess{Mean: []float32{0.5}, Std: []float32{0.5}}, nil
	case "unit":
		return Preprocess{}, nil
	}
	return Preprocess{}, fmt.Errorf("unknown preprocessing %q; expected %s or settings like mean=.5;std=.5;resize=256;crop=224",
		name, strings.Join(presetNames(), ", "))
}

// ParsePreprocess reads what String writes: a preset, or settings separated by
// semicolons, "mean=.5,.5,.5;std=.5,.5,.5;resize=256;crop=224", or a preset and
// settings that change it, "imagenet;resize=232".
func ParsePreprocess(text string) (Preprocess, error) {
	var p Preprocess
	seen := map[string]bool{}
	for i, item := range strings.Split(text, ";") {
		item = strings.TrimSpace(item)
		key, value, ok := strings.Cut(item, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			if item == "" && i > 0 { // a semicolon at the end
				continue
			}
			preset, err := Preset(item)
			if err != nil {
				return Preprocess{}, err
			}
			if i > 0 {
				return Preprocess{}, fmt.Errorf("preprocessing %q: %s must come first", text, item)
			}
			p = preset
			continue
		}
		if seen[key] {
			return Preprocess{}, fmt.Errorf("preprocessing %q: %s is given twice", text, key)
		}
		seen[key] = true
		var err error
		switch key {
		case "mean":
			p.Mean, err = parseFloats(value)
		case "std":
			p.Std, err = parseFloats(value)
		case "resize":
			p.Resize, err = parseSide(value)
		case "crop":
			p.Crop, err = parseSide(value)
		default:
			return Preprocess{}, fmt.Errorf("preprocessing: unknown setting %q; expected mean, std, resize or crop", key)
		}
		if err != nil {
			return Preprocess{}, fmt.Errorf("preprocessing %s: %w", key, err)
		}
	}
	if err := p.Validate(); err != nil {
		return Preprocess{}, err
	}
	return p, nil
}

func parseFloats(s string) ([]float32, error) {
	var out []float32
	for f := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(f), 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", f)
		}
		out = append(out, float32(v))
	}
	return out, nil
}

func parseSide(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number of pixels", s)
	}
	return n, nil
}

// maxSide bounds the sides of a resized image.
const maxSide = 1 << 16

// Validate checks the settings against each other.
func (p Preprocess) Validate() error {
	for _, v := range []struct {
		name string
		list []float32
	}{{"mean", p.Mean}, {"std", p.Std}} {
		if n := len(v.list); n != 0 && n != 1 && n != 3 {
			return fmt.Errorf("preprocessing %s: %d values; expected 1 or 3", v.name, n)
		}
		for _, x := range v.list {
			if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
				return fmt.Errorf("preprocessing %s: %v is not finite", v.name, x)
			}
		}
	}
	for _, x := range p.Std {
		if x <= 0 {
			return fmt.Errorf("preprocessing std: %v is not above 0", x)
		}
	}
	if p.Resize < 0 || p.Crop < 0 || p.Resize > maxSide || p.Crop > maxSide {
		return fmt.Errorf("preprocessing: resize %d and crop %d must be 0 to %d", p.Resize, p.Crop, maxSide)
	}
	if p.Resize > 0 && p.Crop > p.Resize {
		return fmt.Errorf("preprocessing: crop %d is larger than resize %d", p.Crop, p.Resize)
	}
	return nil
}

func (p Preprocess) equal(q Preprocess) bool {
	return slices.Equal(p.Mean, q.Mean) && slices.Equal(p.Std, q.Std) && p.Resize == q.Resize && p.Crop == q.Crop
}

// String writes the preprocessing so that ParsePreprocess reads it back: the
// name of a preset that it equals, else its settings.
func (p Preprocess) String() string {
	for _, n := range presetNames() {
		if q, err := Preset(n); err == nil && q.equal(p) {
			return n
		}
	}
	var items []string
	for _, v := range []struct {
		name string
		list []float32
	}{{"mean", p.Mean}, {"std", p.Std}} {
		if len(v.list) == 0 {
			continue
		}
		var list []string
		for _, x := range v.list {
			list = append(list, strconv.FormatFloat(float64(x), 'g', -1, 32))
		}
		items = append(items, v.name+"="+strings.Join(list, ","))
	}
	if p.Resize > 0 {
		items = append(items, "resize="+strconv.Itoa(p.Resize))
	}
	if p.Crop > 0 {
		items = append(items, "crop="+strconv.Itoa(p.Crop))
	}
	return strings.Join(items, ";")
}

// Transform fits the preprocessing to the input of a model: shape is [N,C,H,W]
// or [N,H,W,C], C 1 or 3, unknown dimensions at or below 0. A height and width
// that are both unknown become Crop.
//
// Resize is scaled by the longer side of the input over Crop, so that the model
// sees the same part of the image at its own resolution: of imagenet a model of
// 320x320 gets resize 366 and its centre. A Resize without Crop becomes at least
// the longer side of the input.
func (p Preprocess) Transform(shape []int64) (*Transform, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if len(shape) != 4 {
		return nil, fmt.Errorf("input shape %v is no image batch; expected [N,C,H,W] or [N,H,W,C]", shape)
	}
	isChannels := func(d int64) bool { return d == 1 || d == 3 }
	t := &Transform{Mean: p.Mean, Std: p.Std}
	var c, h, w int64
	switch {
	case isChannels(shape[1]):
		t.Layout, c, h, w = NCHW, shape[1], shape[2], shape[3]
	case isChannels(shape[3]):
		t.Layout, c, h, w = NHWC, shape[3], shape[1], shape[2]
	default:
		return nil, fmt.Errorf("input shape %v has no dimension of 1 or 3 channels", shape)
	}
	if h <= 0 && w <= 0 && p.Crop > 0 {
		h, w = int64(p.Crop), int64(p.Crop)
	}
	if h <= 0 || w <= 0 {
		return nil, fmt.Errorf("input shape %v leaves height or width open; set the input shape or crop", shape)
	}
	if h > maxSide || w > maxSide {
		return nil, fmt.Errorf("input shape %v: sides are at most %d", shape, maxSide)
	}
	t.Channels, t.Height, t.Width = int(c), int(h), int(w)
	longer := max(t.Height, t.Width)
	t.Resize, t.Crop = p.Resize, p.Crop
	switch {
	case p.Resize > 0 && p.Crop > 0:
		t.Resize = (p.Resize*longer + p.Crop/2) / p.Crop
		t.Crop = 0
	case p.Resize > 0:
		t.Resize = max(p.Resize, longer)
	}
	return t, t.Validate()
}
