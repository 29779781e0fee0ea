//go:build !unix

package onnxfile

import "testing"

func mkfifo(t testing.TB, path string) {
	t.Helper()
	t.Skip("no named pipes here")
}
