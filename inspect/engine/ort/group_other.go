//go:build cgo && !unix

package ort

import "os/exec"

// ownGroup returns what kills the command; there are no process groups here.
func ownGroup(cmd *exec.Cmd) func() error {
	return func() error { return cmd.Process.Kill() }
}
