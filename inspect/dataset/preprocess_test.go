package dataset

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePreprocess(t *testing.T) {
	imagenet, err := Preset("imagenet")
	if err != nil {
		t.Fatal(err)
	}
	changed := imagenet
	changed.Resize = 232
	for _, test := range []struct {
		text, back string
		want       Preprocess
	}{
		{"imagenet", "imagenet", imagenet},
		{"mean=0.485,0.456,0.406;std=0.229,0.224,0.225;resize=256;crop=224", "imagenet", imagenet},
		{"imagenet;resize=232", "mean=0.485,0.456,0.406;std=0.229,0.224,0.225;resize=232;crop=224", changed},
		{"signed", "signed", Preprocess{Mean: []float32{.5}, Std: []float32{.5}}},
		{"unit", "unit", Preprocess{}},
		{" mean = .5, .5,.5 ; std=.25,.5,1e-3 ;", "mean=0.5,0.5,0.5;std=0.25,0.5,0.001", Preprocess{Mean: []float32{.5, .5, .5}, Std: []float32{.25, .5, .001}}},
		{"crop=32", "crop=32", Preprocess{Crop: 32}},
	} {
		p, err := ParsePreprocess(test.text)
		if err != nil || !p.equal(test.want) || p.String() != test.back {
			t.Errorf("%q: %+v written %q, error %v", test.text, p, p.String(), err)
		}
	}
	for text, want := range map[string]string{
		"":                     "expected imagenet, signed, unit",
		"imagenett":            `unknown preprocessing "imagenett"`,
		"mean=1,2":             "2 values; expected 1 or 3",
		"mean=a":               `mean: "a" is no number`,
		"mean=NaN":             "not finite",
		"mean=1e99":            "is no number",
		"std=0":                "not above 0",
		"std=-1":               "not above 0",
		"resize=-1":            "no number of pixels",
		"resize=99999999":      "must be 0 to",
		"resize=10;crop=20":    "crop 20 is larger than resize 10",
		"crop=1;crop=2":        "crop is given twice",
		"crop=1;imagenet":      "imagenet must come first",
		"size=1":               "unknown setting",
		"mean=.5;std=.5;unit;": "must come first",
	} {
		if _, err := ParsePreprocess(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestPreprocessTransform(t *testing.T) {
	for _, test := range []struct {
		text  string
		shape []int64
		want  Transform
	}{
		{"imagenet", []int64{-1, 3, 224, 224}, Transform{Resize: 256, Channels: 3, Height: 224, Width: 224}},
		{"imagenet", []int64{1, 320, 320, 3}, Transform{Resize: 366, Channels: 3, Height: 320, Width: 320, Layout: NHWC}},
		{"imagenet", []int64{1, 3, -1, -1}, Transform{Resize: 256, Channels: 3, Height: 224, Width: 224}},
		{"imagenet", []int64{1, 3, 112, 224}, Transform{Resize: 256, Channels: 3, Height: 112, Width: 224}},
		{"resize=40;mean=.5", []int64{0, 1, 28, 28}, Transform{Resize: 40, Channels: 1, Height: 28, Width: 28}},
		{"resize=20", []int64{0, 28, 30, 1}, Transform{Resize: 30, Channels: 1, Height: 28, Width: 30, Layout: NHWC}},
		{"crop=20", []int64{0, 3, 30, 30}, Transform{Crop: 20, Channels: 3, Height: 30, Width: 30}},
	} {
		p, err := ParsePreprocess(test.text)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := p.Transform(test.shape)
		if err != nil {
			t.Errorf("%s for %v: %v", test.text, test.shape, err)
			continue
		}
		if !slices.Equal(tr.Mean, p.Mean) {
			t.Errorf("%s: mean %v", test.text, tr.Mean)
		}
		got := *tr
		got.Mean, got.Std = nil, nil
		if got.Resize != test.want.Resize || got.Crop != test.want.Crop || got.Channels != test.want.Channels ||
			got.Height != test.want.Height || got.Width != test.want.Width || got.Layout != test.want.Layout {
			t.Errorf("%s for %v: %+v, want %+v", test.text, test.shape, got, test.want)
		}
	}
	for _, test := range []struct {
		text  string
		shape []int64
	}{
		{"unit", []int64{1, 784}}, {"unit", []int64{1, 3, -1, -1}}, {"unit", []int64{1, 3, 32, 0}},
		{"unit", []int64{1, 5, 32, 32}}, {"imagenet", []int64{1, 1, 28, 28}}, {"unit", []int64{1, 3, 1 << 40, 1 << 40}},
	} {
		p, err := ParsePreprocess(test.text)
		if err != nil {
			t.Fatal(err)
		}
		if tr, err := p.Transform(test.shape); err == nil {
			t.Errorf("%s for %v: %+v, want an error", test.text, test.shape, tr)
		}
	}
}

func FuzzParsePreprocess(f *testing.F) {
	for _, s := range []string{"imagenet", "signed;crop=3", "mean=.5,.5,.5;std=.5,.5,.5;resize=256;crop=224", ";", "mean=;std=1e-40"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePreprocess(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("error of more than one line: %q", err)
			}
			return
		}
		q, err := ParsePreprocess(p.String())
		if err != nil || !q.equal(p) {
			t.Fatalf("%q: %+v is written as %q and read as %+v, %v", text, p, p.String(), q, err)
		}
	})
}
