package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Class is a label of a model as a class-index file describes it.
type Class struct {
	// Synset is its WordNet ID, such as "n01440764", or "".
	Synset string
	// Name is what a person calls it: "tench".
	Name string
	// Aliases are its other names: "Tinca tinca".
	Aliases []string
}

// ReadClasses reads the labels of a model, in the order of its outputs. The
// file is one of
//
//   - names, one a line; empty lines at the end do not count;
//   - synsets, one a line, with names: "n01440764 tench, Tinca tinca";
//   - JSON, {"0": ["n01440764", "tench"], ...} as Keras ships it for ImageNet,
//     {"0": "tench, Tinca tinca", ...}, {"tench": 0, ...}, a list of names, or
//     an object with such an id2label, as config.json of a Hugging Face model.
//
// The numbers of a JSON object must be 0 to K-1. The error is an *Error.
func ReadClasses(path string) ([]Class, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, failure("open", path, err)
	}
	defer f.Close()
	const most = 16 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(data) > most {
		err = fault(ErrTooLarge, "more than %d bytes of label names", most)
	}
	if err != nil {
		return nil, failure("read", path, err)
	}
	classes, err := parseClasses(data)
	if err != nil {
		return nil, failure("read", path, err)
	}
	return classes, nil
}

func parseClasses(data []byte) ([]Class, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	text := strings.TrimSpace(string(data))
	if text == "" {
		return nil, fault(ErrEmpty, "it names no label")
	}
	if text[0] == '{' || text[0] == '[' {
		return jsonClasses([]byte(text))
	}
	var out []Class
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			return nil, fault(ErrLabel, "line %d is empty; every line names a label", len(out)+1)
		}
		if len(out) == maxLabels {
			return nil, fault(ErrTooLarge, "more than %d labels", maxLabels)
		}
		out = append(out, lineClass(line))
	}
	return out, nil
}

func isSynset(s string) bool {
	return len(s) == 9 && s[0] == 'n' && strings.Trim(s[1:], "0123456789") == ""
}

func lineClass(line string) Class {
	first, rest, _ := strings.Cut(line, " ")
	if tab, after, ok := strings.Cut(line, "\t"); ok && len(tab) < len(first) {
		first, rest = tab, after
	}
	if isSynset(first) {
		c := namedClass(rest)
		c.Synset = first
		return c
	}
	return namedClass(line)
}

// namedClass takes "tench, Tinca tinca" apart. The whole is an alias too: a
// folder may be called so.
func namedClass(text string) Class {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, ",") {
		return Class{Name: text}
	}
	var names []string
	for _, n := range strings.Split(text, ",") {
		if n = strings.TrimSpace(n); n != "" {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return Class{Name: text}
	}
	return Class{Name: names[0], Aliases: append(names[1:], text)}
}

func jsonClasses(data []byte) ([]Class, error) {
	var list []json.RawMessage
	if data[0] == '[' {
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fault(ErrFormat, "JSON: %v", err)
		}
	} else {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			return nil, fault(ErrFormat, "JSON: %v", err)
		}
		if inner, ok := object["id2label"]; ok {
			object = nil
			if err := json.Unmarshal(inner, &object); err != nil {
				return nil, fault(ErrFormat, "JSON: id2label: %v", err)
			}
		}
		list = make([]json.RawMessage, len(object))
		for key, value := range object {
			number := key
			if n, err := strconv.Atoi(string(value)); err == nil {
				number = strconv.Itoa(n) // {"tench": 0}
				value, _ = json.Marshal(key)
			}
			i, err := strconv.Atoi(number)
			if err != nil || i < 0 || i >= len(list) || list[i] != nil {
				return nil, fault(ErrLabel, "JSON with %d entries has one numbered %.20q; expected 0 to %d, each once", len(list), number, len(list)-1)
			}
			list[i] = value
		}
	}
	if len(list) == 0 {
		return nil, fault(ErrEmpty, "it names no label")
	}
	if len(list) > maxLabels {
		return nil, fault(ErrTooLarge, "more than %d labels", maxLabels)
	}
	out := make([]Class, len(list))
	for i, raw := range list {
		var one string
		var many []string
		switch {
		case json.Unmarshal(raw, &one) == nil:
			out[i] = lineClass(strings.TrimSpace(one))
		case json.Unmarshal(raw, &many) == nil && len(many) > 0:
			synset := ""
			if isSynset(many[0]) {
				synset, many = many[0], many[1:]
			}
			out[i] = namedClass(strings.Join(many, ", "))
			out[i].Synset = synset
		default:
			return nil, fault(ErrLabel, "label %d is neither a name nor a list of names", i)
		}
		if out[i].Name == "" && out[i].Synset == "" {
			return nil, fault(ErrLabel, "label %d has no name", i)
		}
	}
	return out, nil
}

// classNames returns a name for each class, told apart by synset where two have
// the same, as the two cranes of ImageNet.
func classNames(classes []Class) []string {
	count := map[string]int{}
	for _, c := range classes {
		count[c.Name]++
	}
	out := make([]string, len(classes))
	for i, c := range classes {
		out[i] = c.Name
		switch {
		case c.Name == "":
			out[i] = c.Synset
		case count[c.Name] > 1 && c.Synset != "":
			out[i] = c.Name + " (" + c.Synset + ")"
		}
	}
	return out
}

// plainName makes names comparable: "Golden_Retriever" is "golden retriever".
func plainName(s string) string {
	return strings.Join(strings.Fields(strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(s))), " ")
}

// matchClasses finds the class of each name: by synset, by name as written, by
// name or alias but for case, "_" and "-", then by the first of several names.
func matchClasses(names []string, classes []Class) ([]int32, error) {
	const several = -1
	exact, loose := map[string]int32{}, map[string]int32{}
	enter := func(m map[string]int32, key string, i int) {
		if other, ok := m[key]; ok && other != int32(i) {
			m[key] = several
		} else if key != "" {
			m[key] = int32(i)
		}
	}
	for i, c := range classes {
		enter(exact, c.Synset, i)
		enter(exact, c.Name, i)
		enter(loose, plainName(c.Name), i)
	}
	// An alias gives way to a name: a "crane" is not "dun crane, crane".
	for i, c := range classes {
		for _, a := range c.Aliases {
			if key := plainName(a); !isName(loose, classes, key) {
				enter(loose, key, i)
			}
		}
	}
	out := make([]int32, len(names))
	var missing, unclear []string
	for k, name := range names {
		first, _, _ := strings.Cut(name, ",")
		i, ok := exact[name]
		for _, key := range []string{plainName(name), plainName(first)} {
			if !ok {
				i, ok = loose[key]
			}
		}
		switch {
		case !ok:
			missing = append(missing, name)
		case i == several:
			unclear = append(unclear, name)
		}
		out[k] = i
	}
	// Folders 0, 1, 2 ... are numbers of classes.
	if len(missing) == len(names) {
		if numbers, ok := classNumbers(names, len(classes)); ok {
			return numbers, nil
		}
	}
	if len(missing) > 0 {
		return nil, fault(ErrLabel, "%s not among the %d classes given: %s", plural(len(missing), "label is", "labels are"), len(classes), someOf(missing))
	}
	if len(unclear) > 0 {
		return nil, fault(ErrLabel, "several of the classes given are called so: %s; use synsets", someOf(unclear))
	}
	for k, i := range out {
		if at := slices.Index(out[:k], i); at >= 0 {
			return nil, fault(ErrLabel, "labels %q and %q are both class %d of those given", names[at], names[k], i)
		}
	}
	return out, nil
}

func isName(loose map[string]int32, classes []Class, key string) bool {
	i, ok := loose[key]
	return ok && (i < 0 || plainName(classes[i].Name) == key)
}

func classNumbers(names []string, n int) ([]int32, bool) {
	out := make([]int32, len(names))
	for k, name := range names {
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= n || strconv.Itoa(i) != name {
			return nil, false
		}
		out[k] = int32(i)
	}
	return out, true
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// someOf names the first few.
func someOf(names []string) string {
	const shown = 5
	quoted := make([]string, 0, shown)
	for _, n := range names[:min(len(names), shown)] {
		quoted = append(quoted, strconv.Quote(n))
	}
	out := strings.Join(quoted, ", ")
	if len(names) > shown {
		out += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return out
}

// classify numbers the labels of s as classes do: by name where the data has
// names, else by number.
func (s *Set) classify(classes []Class, subset bool) error {
	names := classNames(classes)
	sorted := slices.Sorted(slices.Values(names))
	for i := range sorted[1:] {
		if sorted[i] == sorted[i+1] {
			return fault(ErrLabel, "two of the classes given are called %q", sorted[i])
		}
	}
	to := make([]int32, len(s.labels))
	if slices.Equal(s.labels, numbered(len(s.labels))) {
		if len(s.labels) > len(classes) {
			return fault(ErrLabel, "labels up to %d, but %d classes are given", len(s.labels)-1, len(classes))
		}
		for i := range to {
			to[i] = int32(i)
		}
	} else {
		var err error
		if to, err = matchClasses(s.labels, classes); err != nil {
			return err
		}
	}
	for i, l := range s.label {
		s.label[i] = to[l]
	}
	s.labels = names
	if absent := s.Absent(); len(absent) > 0 && !subset {
		var without []string
		for _, l := range absent {
			without = append(without, names[l])
		}
		return fault(ErrLabel, "%d of the %d classes given have no samples: %s; say so if the data is a subset", len(without), len(names), someOf(without))
	}
	return nil
}

// Absent returns the labels that have no sample, ascending.
func (s *Set) Absent() []int {
	has := make([]bool, len(s.labels))
	for _, l := range s.label {
		has[l] = true
	}
	var out []int
	for l, yes := range has {
		if !yes {
			out = append(out, l)
		}
	}
	return out
}
