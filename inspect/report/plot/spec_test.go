package plot_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/inspect/report/plot"
)

func TestParse(t *testing.T) {
	tests := []struct {
		word string
		want plot.Spec
		err  string // a part of the error
	}{
		{word: "snr.svg", want: plot.Spec{Kind: plot.SNR, Format: "svg", File: "snr.svg"}},
		{word: "SNR.PNG", want: plot.Spec{Kind: plot.SNR, Format: "png", File: "SNR.png"}},
		{word: "depth.png", want: plot.Spec{Kind: plot.Depth, Format: "png", File: "depth.png"}},
		{word: "theta.svg", want: plot.Spec{Kind: plot.Theta, Format: "svg", File: "theta.svg"}},
		{word: "theta:conv10.svg", want: plot.Spec{Kind: plot.Theta, Layer: "conv10", Format: "svg", File: "theta-conv10.svg"}},
		{word: "layer:features.40.0.png", want: plot.Spec{Kind: plot.Layer, Layer: "features.40.0", Format: "png", File: "layer-features.40.0.png"}},
		{word: "filter:conv10/37.png", want: plot.Spec{Kind: plot.Filter, Layer: "conv10", Filter: 37, Format: "png", File: "filter-conv10-37.png"}},
		{word: "filter:/features/features.40/Conv/37.svg", want: plot.Spec{Kind: plot.Filter, Layer: "/features/features.40/Conv", Filter: 37, Format: "svg", File: "filter-features-features.40-Conv-37.svg"}},
		{word: `layer:a:b\c d*.svg`, want: plot.Spec{Kind: plot.Layer, Layer: `a:b\c d*`, Format: "svg", File: "layer-a-b-c-d.svg"}},
		{word: "layer:../../x.svg", want: plot.Spec{Kind: plot.Layer, Layer: "../../x", Format: "svg", File: "layer-..-..-x.svg"}},
		{word: "stability:conv1=out/s.svg", want: plot.Spec{Kind: plot.Stability, Layer: "conv1", Format: "svg", File: "out/s.svg"}},
		{word: "snr=out/trend.svg", want: plot.Spec{Kind: plot.SNR, Format: "svg", File: "out/trend.svg"}},
		{word: "snr=a=b.png", want: plot.Spec{Kind: plot.SNR, Format: "png", File: "a=b.png"}},
		{word: "snr", err: "must be .svg or .png"},
		{word: "snr.pdf", err: "must be .svg or .png"},
		{word: "", err: "must be .svg or .png"},
		{word: "snr=", err: "must be .svg or .png"},
		{word: "snr=.svg", err: "name of the file is missing"},
		{word: "snr=out/.svg", err: "name of the file is missing"},
		{word: "snr=trend", err: "must be .svg or .png"},
		{word: "snr:conv1.svg", err: "leave out :conv1"},
		{word: "colour.svg", err: "the kinds are snr, accuracy, nc, cs, d, n, depth, theta, theta:LAYER, layer:LAYER, filter:LAYER/N, stability:LAYER"},
		{word: "out/dir/snr.svg", err: "write snr=out/dir/snr.svg"},
		{word: "layer.svg", err: "write layer:LAYER"},
		{word: "layer:.svg", err: "write layer:LAYER"},
		{word: "theta:.svg", err: "theta alone for all layers"},
		{word: "filter:conv10.png", err: "write filter:LAYER/N"},
		{word: "filter:conv10/x.png", err: "write filter:LAYER/N"},
		{word: "filter:conv10/-1.png", err: "write filter:LAYER/N"},
		{word: "filter:/3.png", err: "write filter:LAYER/N"},
		{word: "filter.png", err: "write filter:LAYER/N"},
		{word: "filter:c/99999999999999999999.png", err: "write filter:LAYER/N"},
	}
	for _, tt := range tests {
		got, err := plot.Parse(tt.word)
		if tt.err == "" {
			if err != nil || got != tt.want {
				t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.word, got, err, tt.want)
			}
			continue
		}
		var we *plot.WordError
		if !errors.As(err, &we) || !strings.Contains(err.Error(), tt.err) || got != (plot.Spec{}) {
			t.Errorf("Parse(%q) = %+v, %v; want an error with %q", tt.word, got, err, tt.err)
		}
	}
}

func TestKindsParse(t *testing.T) {
	for _, k := range plot.Kinds() {
		word := strings.NewReplacer("LAYER", "conv1", "/N", "/0").Replace(k.Word)
		if _, err := plot.Parse(word + ".svg"); err != nil || k.Text == "" {
			t.Errorf("%q %q: %v", k.Word, k.Text, err)
		}
	}
}

func TestFileNameOfALongWord(t *testing.T) {
	s, err := plot.Parse("filter:" + strings.Repeat("層", 300) + "/37.svg")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.File) > 255 || !strings.HasPrefix(s.File, "filter-") || !strings.HasSuffix(s.File, "-37.svg") {
		t.Errorf("file %q of %d bytes", s.File, len(s.File))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"snr.svg", "filter:a/b/3.png", "theta:x=y/z.svg", "layer:a=b=c.png", "=.svg", "\xff:\x00.svg", "layer:..=.png"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		s, err := plot.Parse(word)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has two lines: %q", err)
			}
			return
		}
		if s.File == "" || s.Format != plot.SVG && s.Format != plot.PNG {
			t.Errorf("Parse(%q) = %+v", word, s)
		}
		if !strings.Contains(word, "=") && (filepath.Base(s.File) != s.File || s.File[0] == '.' || len(s.File) > 255) {
			t.Errorf("Parse(%q) writes to %q", word, s.File)
		}
	})
}

func TestResolve(t *testing.T) {
	taps := []*probe.Tap{
		{Layers: []string{"/features/features.0/Conv"}, Tensor: "t0", Op: "Conv", Filters: 4},
		{Layers: []string{"/features/features.2/Conv", "/down/Conv"}, Tensor: "t2", Op: "Conv", Filters: 8},
		{Layers: []string{"/x/x.0/Conv"}, Tensor: "t3", Op: "Conv", Filters: 8},
		{Layers: []string{"/y/Conv"}, Tensor: "x.0", Op: "Conv", Filters: 8},
		{Layers: []string{"/a/b/Conv"}, Tensor: "t5", Op: "Conv", Filters: 8},
		{Layers: []string{"/a/a/b/Conv"}, Tensor: "t6", Op: "Conv", Filters: 8},
		{Layers: []string{"a/b"}, Tensor: "t7", Op: "Conv", Filters: 8},
		{Layers: []string{"/z/z.1/Conv"}, Tensor: "t8", Op: "Conv", Filters: 8},
		{Layers: []string{"/z.1/Conv"}, Tensor: "t9", Op: "Conv", Filters: 8},
	}
	tests := []struct{ word, tensor, err string }{
		{"snr.svg", "", ""},
		{"theta.svg", "", ""},
		{"layer:/features/features.0/Conv.svg", "t0", ""},
		{"layer:features.0.svg", "t0", ""},
		{"layer:t2.svg", "t2", ""},
		{"layer:down.svg", "t2", ""},
		{"layer:/down/Conv.svg", "t2", ""},
		{"layer:features.2 + down.svg", "t2", ""},
		{"layer:x.0.svg", "x.0", ""}, // a tensor's name comes before a short one
		{"layer:a/b.svg", "t7", ""},  // and so does a layer's
		{"layer:z.1.svg", "", `that may be "/z/z.1/Conv" or "/z.1/Conv"`},
		{"filter:features.0/3.svg", "t0", ""},
		{"filter:features.0/4.svg", "", "numbered from 0 to 3"},
		{"layer:features.9.svg", "", `no layer "features.9"`},
	}
	for _, tt := range tests {
		s, err := plot.Parse(tt.word)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Resolve(taps)
		if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) || s.Tensor != tt.tensor {
			t.Errorf("%s: tensor %q, error %v; want %q, %q", tt.word, s.Tensor, err, tt.tensor, tt.err)
		}
	}
}

func TestNeeds(t *testing.T) {
	for word, want := range map[string][3]bool{
		"snr.svg": {}, "depth.svg": {}, "layer:a.svg": {},
		"theta.svg":       {true, false, false},
		"theta:a.svg":     {true, false, false},
		"stability:a.svg": {false, true, false},
		"filter:a/0.svg":  {false, false, true},
	} {
		s, err := plot.Parse(word)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]bool{s.NeedsSweep(), s.NeedsStability(), s.NeedsMatrix()}; got != want {
			t.Errorf("%s needs %v, want %v", word, got, want)
		}
	}
}
