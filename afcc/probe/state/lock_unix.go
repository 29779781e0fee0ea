//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockFile takes the lock on a file, which it makes, and writes the process's
// number there for others to tell. Closing the file, which the end of the process
// does too, gives the lock back.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		text := make([]byte, 20)
		n, _ := f.ReadAt(text, 0)
		f.Close()
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return nil, &LockedError{PID: pid}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("it cannot be locked: %w", err)
	}
	// The number is for messages only; on a full disk the lock holds without it. A
	// file of that name that is somebody else's is not written to.
	old := make([]byte, 20)
	n, _ := f.ReadAt(old, 0)
	if _, err := strconv.Atoi(strings.TrimSpace(string(old[:n]))); n > 0 && err != nil {
		return f, nil
	}
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}
