package dataset

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Owns tells whether path is an existing file that the data set is read from, or
// one that stands among them: a record, label or name file beside the others, or
// anything inside a class folder. Writing there would destroy data.
func (s *Set) Owns(path string) bool {
	target, err := os.Stat(path)
	if err != nil || target.IsDir() {
		return false
	}
	root := s.root
	info, err := os.Stat(root)
	if err != nil {
		return false
	}
	if os.SameFile(info, target) {
		return true
	}
	if !info.IsDir() {
		root = filepath.Dir(root)
	}
	rel, ok := below(root, path)
	if !ok {
		return false
	}
	if s.Format() == folderName {
		return strings.Contains(rel, string(filepath.Separator))
	}
	base := strings.ToLower(filepath.Base(rel))
	for _, end := range []string{".bin", ".gz", "-ubyte", ".txt", ".names", ".parquet", ".tar", ".npz", ".npy"} {
		if strings.HasSuffix(base, end) {
			return true
		}
	}
	return strings.Contains(base, "idx") && filepath.Ext(base) != ".json"
}

// below returns path relative to root when it lies below it, links resolved.
func below(root, path string) (string, bool) {
	var err error
	for _, p := range []*string{&root, &path} {
		if *p, err = filepath.Abs(*p); err != nil {
			return "", false
		}
		if *p, err = filepath.EvalSymlinks(*p); err != nil {
			return "", false
		}
	}
	rel, err := filepath.Rel(root, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// SkippedText names the first few of a list of skipped files with their reasons, and
// counts the rest; "" for an empty list.
func SkippedText(list []Skipped) string {
	const shown = 3
	var b strings.Builder
	for i, s := range list {
		if i == shown {
			b.WriteString(" and " + strconv.Itoa(len(list)-shown) + " more")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.Name + " (" + s.Reason + ")")
	}
	return b.String()
}
