package dataset

import "os"

// openRegular opens a regular file and returns its size. It looks before it
// opens, because opening a pipe would wait for its writer.
func openRegular(path string) (*os.File, int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fault(ErrFormat, "not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	return f, st.Size(), nil
}
