package dataset

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadClasses(t *testing.T) {
	tench := Class{Synset: "n01440764", Name: "tench"}
	for _, test := range []struct {
		name, text string
		want       []Class
	}{
		{"names", "\ufeffcat\r\ndog\n\n", []Class{{Name: "cat"}, {Name: "dog"}}},
		{"names with commas", "cat, puss\ndog", []Class{{Name: "cat", Aliases: []string{"puss", "cat, puss"}}, {Name: "dog"}}},
		{"synsets", "n01440764 tench, Tinca tinca\nn02012849\tcrane\nn03126707", []Class{
			{Synset: "n01440764", Name: "tench", Aliases: []string{"Tinca tinca", "tench, Tinca tinca"}}, {Synset: "n02012849", Name: "crane"}, {Synset: "n03126707"}}},
		{"Keras", `{"1": ["n02012849", "crane"], "0": ["n01440764", "tench"]}`, []Class{tench, {Synset: "n02012849", Name: "crane"}}},
		{"numbered", `{"0": "cat", "1": "dog"}`, []Class{{Name: "cat"}, {Name: "dog"}}},
		{"inverse", `{"dog": 1, "cat": 0}`, []Class{{Name: "cat"}, {Name: "dog"}}},
		{"list", `["n01440764 tench", ["n02012849", "crane"]]`, []Class{tench, {Synset: "n02012849", Name: "crane"}}},
		{"config", `{"model_type": "resnet", "id2label": {"0": "cat"}, "label2id": {"cat": 0}}`, []Class{{Name: "cat"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ReadClasses(put(t, t.TempDir(), "x", []byte(test.text)))
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	for text, want := range map[string]string{
		"": "names no label", "{}": "names no label", "{": "JSON", `{"0": "a", "2": "b"}`: `numbered "2"; expected 0 to 1`, `{"a": "b"}`: `numbered "a"`,
		`[{}]`: "neither a name nor a list", `[""]`: "label 0 has no name", "a\n\nb": "line 2 is empty", `{"a": 0, "b": 0}`: "each once", `{"id2label": 3}`: "id2label",
	} {
		_, err := ReadClasses(put(t, t.TempDir(), "x", []byte(text)))
		if e := (*Error)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := ReadClasses("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestClasses(t *testing.T) {
	imagenet := []Class{
		{Synset: "n01440764", Name: "tench", Aliases: []string{"Tinca tinca"}},
		{Synset: "n02099601", Name: "golden retriever"},
		{Synset: "n02012849", Name: "crane"},
		{Synset: "n03126707", Name: "crane"},
		{Synset: "n09999999", Name: "derrick", Aliases: []string{"Golden Retriever"}},
	}
	for _, test := range []struct {
		name    string
		folders []string
		opt     Options
		want    []int32
		text    string
	}{
		{"synsets", []string{"n02099601", "n01440764"}, Options{Classes: imagenet[:2]}, []int32{1, 0}, ""},
		{"names", []string{"Golden_Retriever", "Tinca tinca"}, Options{Classes: imagenet, Subset: true}, []int32{1, 0}, ""},
		{"numbers", []string{"10", "2"}, Options{Classes: make11(), Subset: true}, []int32{10, 2}, ""},
		{"not a subset", []string{"tench"}, Options{Classes: imagenet[:3]}, nil, `2 of the 3 classes given have no samples: "golden retriever", "crane"; say so`},
		{"unknown", []string{"cat", "tench"}, Options{Classes: imagenet, Subset: true}, nil, `1 label is not among the 5 classes given: "cat"`},
		{"unclear", []string{"crane"}, Options{Classes: imagenet, Subset: true}, nil, `several of the classes given are called so: "crane"; use synsets`},
		{"same", []string{"n01440764", "tench"}, Options{Classes: imagenet, Subset: true}, nil, `"n01440764" and "tench" are both class 0`},
		{"twice", []string{"a"}, Options{Classes: []Class{{Name: "a"}, {Name: "a"}}}, nil, `two of the classes given are called "a"`},
		{"both", []string{"a"}, Options{Classes: []Class{{Name: "a"}}, Labels: []string{"a"}}, nil, "given twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, f := range test.folders {
				put(t, dir, f+"/x.png", tiny(t, i))
			}
			if test.text != "" {
				checkError(t, dir, test.opt, ErrLabel, test.text)
				return
			}
			s := mustOpen(t, dir, test.opt)
			got := make([]int32, len(test.folders))
			for i := range s.Len() {
				folder, _, _ := strings.Cut(s.ID(i), "/")
				got[slices.Index(test.folders, folder)] = s.label[i]
			}
			if !slices.Equal(got, test.want) || len(s.Labels()) != len(test.opt.Classes) || len(s.Absent()) != len(test.opt.Classes)-len(test.folders) {
				t.Errorf("labels %v of %q, absent %v, want %v", got, s.Labels(), s.Absent(), test.want)
			}
		})
	}
	if got, want := classNames(imagenet), []string{"tench", "golden retriever", "crane (n02012849)", "crane (n03126707)", "derrick"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}

func make11() (out []Class) {
	for _, n := range "abcdefghijk" {
		out = append(out, Class{Name: string(n)})
	}
	return out
}

func FuzzClasses(f *testing.F) {
	f.Add([]byte("n01440764 tench, Tinca tinca\ndog"))
	f.Add([]byte(`{"0": ["n01440764", "tench"], "1": "x"}`))
	f.Add([]byte(`{"id2label": {"0": "cat"}}`))
	f.Add([]byte(`["a", ["n01440764"]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		classes, err := parseClasses(data)
		if err != nil {
			return
		}
		for i, name := range classNames(classes) {
			if name == "" {
				t.Fatalf("class %d of %q has no name", i, data)
			}
		}
		matchClasses(classNames(classes), classes)
	})
}
