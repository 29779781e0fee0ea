// Package state keeps in a folder what a long measurement has found so far, so
// that a process that was killed, at any moment and by whatever, goes on from
// there.
//
// What is kept comes in parts. A part is named by its kind and by the hash of all
// that decides its content, so that it is found again by any later run for which
// the same holds, and by no other. A part is written beside its place, synced and
// then moved there: it is there as a whole or not at all. What is damaged, torn or
// foreign is reported and then treated as if it were not there; nothing of it is
// trusted. A lock keeps two processes apart.
//
// The package knows files, hashes and arrays. What the arrays mean, and which
// parts a measurement has, may not enter.
package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
)

// Options of Open. The zero value is ready to use.
type Options struct {
	// Log receives a line for each part that cannot be used; nil drops them. It
	// may be called from any goroutine that uses the store.
	Log func(line string)
}

// A Store is an open state folder. Its methods are safe for concurrent use as long
// as no two of them are given the same kind and key.
type Store struct {
	dir  string
	root *os.Root
	lock io.Closer
	log  func(string)

	mu   sync.Mutex
	used map[string]bool // names of files that were read or written
}

// Key names a part: a hash of what decides its content.
type Key [sha256.Size]byte

// KeyOf returns the SHA-256 of facts written as JSON. It panics when they cannot
// be.
func KeyOf(facts ...any) Key {
	text, err := json.Marshal(facts)
	if err != nil {
		panic(fmt.Sprintf("state: a key of what JSON cannot hold: %v", err))
	}
	return sha256.Sum256(text)
}

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A LockedError says that another process uses the folder.
type LockedError struct {
	Dir string
	// PID is its number, 0 when it is not known.
	PID int
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who += fmt.Sprintf(" (%d)", e.PID)
	}
	return fmt.Sprintf("the state in %s is in use by %s; wait for it, or give another folder", e.Dir, who)
}

// Error says what could not be done to a state folder. What had been kept before
// is still there.
type Error struct {
	// Op is "open", "write" or "remove", Path the folder or the file.
	Op, Path string
	Err      error
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot %s the state in %s: %v", e.Op, e.Path, bare(e.Err))
}

func (e *Error) Unwrap() error { return e.Err }

// bare takes the name off an error of the operating system: the message has one.
func bare(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

const (
	lockName = "filterlens.lock"
	tempName = ".filterlens-state-%08x.tmp"
)

var (
	// partFile and tempFile match the names of the store's own files; no others
	// are ever changed or removed.
	partFile = regexp.MustCompile(`^[a-z]{1,16}-[0-9a-f]{64}\.(part|rows)$`)
	tempFile = regexp.MustCompile(`^\.filterlens-state-[0-9a-f]{8}\.tmp$`)
)

// Open opens the state folder dir and makes it when it is not there; its parent
// must exist. Other files in it are left alone. Half-written files of a process
// that was killed are removed.
//
// The folder is locked until Close. The lock is the kernel's and ends with the
// process, so that none is left behind by one that was killed; systems that have
// no such lock (other than Unix and Windows) are not guarded. The error is a
// *LockedError or an *Error.
func Open(dir string, opt Options) (*Store, error) {
	fail := func(err error) (*Store, error) { return nil, &Error{Op: "open", Path: dir, Err: err} }
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fail(err)
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		root.Close()
		var held *LockedError
		if errors.As(err, &held) {
			held.Dir = dir
			return nil, held
		}
		return fail(err)
	}
	s := &Store{dir: dir, root: root, lock: lock, log: opt.Log, used: map[string]bool{}}
	if s.log == nil {
		s.log = func(string) {}
	}
	names, err := s.names()
	for _, name := range names {
		if err == nil && tempFile.MatchString(name) && s.regular(name) {
			err = root.Remove(name)
		}
	}
	if err != nil {
		s.Close()
		return fail(err)
	}
	return s, nil
}

// Close gives up the lock. What is kept stays.
func (s *Store) Close() error { return errors.Join(s.root.Close(), s.lock.Close()) }

// Dir returns the folder as it was given to Open.
func (s *Store) Dir() string { return s.dir }

func (s *Store) names() ([]string, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (s *Store) regular(name string) bool {
	info, err := s.root.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// name returns the file of a part and notes that it is in use.
func (s *Store) name(kind string, key Key, ending string) string {
	name := fmt.Sprintf("%s-%s.%s", kind, key, ending)
	if !partFile.MatchString(name) {
		panic(fmt.Sprintf("state: %q is no kind of part", kind))
	}
	s.mu.Lock()
	s.used[name] = true
	s.mu.Unlock()
	return name
}

// open opens a file of the store for reading, with its size; fs.ErrNotExist when
// there is none.
func (s *Store) open(name string, flag int) (*os.File, int64, error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a regular file")
	}
	f, err := s.root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// replace writes a file as a whole: beside its place, synced, then moved there.
func (s *Store) replace(name string, write func(f *os.File) error) error {
	fail := func(err error) error { return &Error{Op: "write", Path: s.dir, Err: err} }
	if info, err := s.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fail(fmt.Errorf("%s is not a regular file", name))
	}
	var f *os.File
	temp, err := "", error(fs.ErrExist)
	for try := 0; errors.Is(err, fs.ErrExist) && try < 100; try++ {
		temp = fmt.Sprintf(tempName, rand.Uint32())
		f, err = s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	}
	if err != nil {
		return fail(err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.root.Rename(temp, name)
	}
	if err != nil {
		s.root.Remove(temp)
		return fail(err)
	}
	if err := s.syncFolder(); err != nil {
		return fail(err)
	}
	return nil
}

// syncFolder makes a new name last through a loss of power. Windows has no such
// call.
func (s *Store) syncFolder() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// reject reports a file that cannot be used.
func (s *Store) reject(name string, err error) {
	s.log(fmt.Sprintf("state not used: %s: %v; it is measured again", filepath.Join(s.dir, name), bare(err)))
}

// Remove removes a part and the rows of that name; what is not there is no error.
func (s *Store) Remove(kind string, key Key) error {
	for _, ending := range []string{"part", "rows"} {
		name := s.name(kind, key, ending)
		if s.regular(name) {
			if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &Error{Op: "remove", Path: filepath.Join(s.dir, name), Err: err}
			}
		}
	}
	return nil
}

// Prune removes the parts that were neither read nor written since Open: those of
// other models, data or settings. Without it they stay, for a run with those
// settings to come. It returns how many there were and their bytes.
func (s *Store) Prune() (files int, bytes int64, err error) {
	names, err := s.names()
	if err != nil {
		return 0, 0, &Error{Op: "open", Path: s.dir, Err: err}
	}
	for _, name := range names {
		s.mu.Lock()
		used := s.used[name]
		s.mu.Unlock()
		if used || !partFile.MatchString(name) {
			continue
		}
		f, size, err := s.open(name, os.O_RDONLY)
		if err != nil {
			continue
		}
		begin := make([]byte, len(partMagic))
		_, err = io.ReadFull(f, begin)
		f.Close()
		if err != nil || string(begin) != partMagic && string(begin) != rowsMagic {
			continue // not ours
		}
		if err := s.root.Remove(name); err != nil {
			return files, bytes, &Error{Op: "remove", Path: filepath.Join(s.dir, name), Err: err}
		}
		files++
		bytes += size
	}
	return files, bytes, nil
}

// Size returns the bytes that the parts take, used or not.
func (s *Store) Size() (int64, error) {
	names, err := s.names()
	if err != nil {
		return 0, &Error{Op: "open", Path: s.dir, Err: err}
	}
	var n int64
	for _, name := range names {
		if info, err := s.root.Lstat(name); err == nil && info.Mode().IsRegular() && partFile.MatchString(name) {
			n += info.Size()
		}
	}
	return n, nil
}
