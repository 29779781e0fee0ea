//go:build unix

package onnxfile

import (
	"os"
	"syscall"
)

// openFlags keep an open from waiting for the writer of a pipe that has taken
// the place of a file.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// links returns how many names a file has.
func links(info os.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink)
	}
	return 1
}
