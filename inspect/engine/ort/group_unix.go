//go:build cgo && unix

package ort

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a command into a process group of its own and returns what
// kills that group.
func ownGroup(cmd *exec.Cmd) func() error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
