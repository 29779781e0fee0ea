package dataset

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// partWord finds the part that a slash-separated path names: its file name
// begins with the word ("test-00000-of-00001.parquet"), or a folder is called
// so ("default/train/0000.parquet"). It is "" when none is named.
func partWord(name string) string {
	words := append(trainNames(), testNames()...)
	base := strings.ToLower(path.Base(name))
	end := strings.IndexFunc(base, func(r rune) bool { return r < 'a' || r > 'z' })
	if end < 0 {
		end = len(base)
	}
	if slices.Contains(words, base[:end]) {
		return base[:end]
	}
	for _, dir := range slices.Backward(strings.Split(path.Dir(name), "/")) {
		if slices.Contains(words, strings.ToLower(dir)) {
			return strings.ToLower(dir)
		}
	}
	return ""
}

// shardPart is a part of a set in files. The first of its choices that turns
// out to be useful is taken.
type shardPart struct {
	part    Part
	choices []shardChoice
}

type shardChoice struct {
	word  string
	files []string
}

// planShards sorts files into parts, by the same rule as class folders: train
// with the first of test, val, ... that is there. Files of one set stand in
// one folder, but for folders named after parts.
func planShards(files []string) (plan []shardPart, skipped []Skipped, err error) {
	byWord := map[string][]string{}
	var sets []string
	for _, f := range files {
		byWord[partWord(f)] = append(byWord[partWord(f)], f)
		var dirs []string
		for _, d := range strings.Split(path.Dir(f), "/") {
			if partWord(d) == "" && !strings.EqualFold(d, "data") && d != "." {
				dirs = append(dirs, d)
			}
		}
		if set := strings.Join(dirs, "/"); !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	if len(sets) > 1 {
		for i, s := range sets {
			if s == "" {
				sets[i] = "files beside the folders"
			}
		}
		const shown = 4
		more := ""
		if len(sets) > shown {
			more = fmt.Sprintf(" and %d more", len(sets)-shown)
		}
		return nil, nil, fault(ErrFormat, "more than one data set in it (%s%s); give one of the folders", strings.Join(sets[:min(len(sets), shown)], ", "), more)
	}
	choices := func(words []string) (out []shardChoice) {
		for _, w := range words {
			if byWord[w] != nil {
				out = append(out, shardChoice{w, byWord[w]})
			}
		}
		return out
	}
	train, test := choices(trainNames()), choices(testNames())
	if len(train)+len(test) == 0 {
		return []shardPart{{PartNone, []shardChoice{{"", files}}}}, nil, nil
	}
	skipped = skipAll(byWord[""], "not used: its name names no part, others are called train or test")
	if len(train) > 0 {
		plan = append(plan, shardPart{PartTrain, train})
	}
	if len(test) > 0 {
		plan = append(plan, shardPart{PartTest, test})
	}
	return plan, skipped, nil
}

// others lists what is left of a part's choices when choice k is taken.
func (p shardPart) others(k int) (out []Skipped) {
	for _, c := range p.choices[k+1:] {
		out = append(out, skipAll(c.files, fmt.Sprintf("not used: %s is taken as the %s part", p.choices[k].word, p.part))...)
	}
	return out
}

func skipAll(files []string, reason string) (out []Skipped) {
	for _, f := range files {
		out = append(out, Skipped{f, reason})
	}
	return out
}

// shardFiles lists the files below root whose names end in ext, at most two
// folders deep, as slash-separated paths in order.
func shardFiles(root, ext string) (out []string, err error) {
	var list func(dir string, depth int) error
	list = func(dir string, depth int) error {
		dirs, files, err := subfolders(filepath.Join(root, filepath.FromSlash(dir)))
		if err != nil {
			return err
		}
		for _, f := range files {
			if strings.EqualFold(filepath.Ext(f), ext) {
				out = append(out, path.Join(dir, f))
			}
		}
		if depth == 0 {
			return nil
		}
		for _, d := range dirs {
			if err := list(path.Join(dir, d), depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := list("", 2); err != nil {
		return nil, err
	}
	slices.Sort(out)
	return out, nil
}

// hasFiles looks for a file whose name fits, from to 2 folders below root,
// without reading folders to the end, which for a million images would take long.
func hasFiles(root string, from int, fits func(name string) bool) bool {
	const look = 64
	var find func(dir string, depth int) bool
	find = func(dir string, depth int) bool {
		f, err := os.Open(dir)
		if err != nil {
			return false
		}
		entries, _ := f.ReadDir(look)
		f.Close()
		for _, e := range entries {
			if hidden(e.Name()) {
				continue
			}
			if e.IsDir() {
				if depth > 0 && find(filepath.Join(dir, e.Name()), depth-1) {
					return true
				}
			} else if depth <= 2-from && fits(e.Name()) {
				return true
			}
		}
		return false
	}
	return find(root, 2)
}
