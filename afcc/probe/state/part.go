package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// A part is a file of
//
//	8 bytes   magic
//	4         version, 4 the number of arrays
//	32        key
//	16        kind, filled up with zeros
//	8         bytes of the info
//	16 each   of the arrays: type, length
//	          the info, JSON
//	          the arrays
//	32        SHA-256 of all before
//
// all numbers little-endian.
const (
	partMagic = "FLSTATE\n"
	version   = 1
	partHead  = 8 + 4 + 4 + sha256.Size + kindLen + 8
	kindLen   = 16
	arrayHead = 16
)

// Types of arrays.
const (
	typeFloat32 = iota + 1
	typeFloat64
	typeInt64
	typeInt32
)

// Why a file is not used.
var (
	errForeign = errors.New("it is no such file")
	errVersion = errors.New("it has another version")
	errKey     = errors.New("it belongs to something else")
	errShape   = errors.New("its arrays have other sizes")
	errDamaged = errors.New("it is damaged")
)

// chunk is the number of elements that are converted at a time.
const chunk = 1 << 13

// Put keeps a part: info as JSON, and arrays, each a []float32, []float64,
// []int64 or []int32. A part of that name takes its place at once; when Put fails it is the
// old one that is there. kind is of at most 16 letters a to z. The error is an
// *Error.
func (s *Store) Put(kind string, key Key, info any, arrays ...any) error {
	text, err := json.Marshal(info)
	if err != nil {
		return &Error{Op: "write", Path: s.dir, Err: err}
	}
	return s.replace(s.name(kind, key, "part"), func(f *os.File) error {
		sum := sha256.New()
		w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<18)
		w.Write(partHeader(kind, key, len(text), arrays))
		w.Write(text)
		for _, a := range arrays {
			if err := writeArray(w, a); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, err := f.Write(sum.Sum(nil))
		return err
	})
}

// partHeader is all that comes before the info.
func partHeader(kind string, key Key, info int, arrays []any) []byte {
	le := binary.LittleEndian
	h := append([]byte(partMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	le.PutUint32(h[8:], version)
	le.PutUint32(h[12:], uint32(len(arrays)))
	h = append(h, key[:]...)
	h = append(h, kind...)
	h = append(h, make([]byte, kindLen-len(kind))...)
	h = le.AppendUint64(h, uint64(info))
	for _, a := range arrays {
		t, n, _ := describe(a)
		h = le.AppendUint64(h, t)
		h = le.AppendUint64(h, uint64(n))
	}
	return h
}

// describe returns the type and the length of an array and the bytes of an
// element. It panics for what is no array.
func describe(array any) (t uint64, n, size int) {
	switch a := array.(type) {
	case []float32:
		return typeFloat32, len(a), 4
	case []float64:
		return typeFloat64, len(a), 8
	case []int64:
		return typeInt64, len(a), 8
	case []int32:
		return typeInt32, len(a), 4
	}
	panic(fmt.Sprintf("state: %T is no type of array", array))
}

func writeArray(w io.Writer, array any) error {
	switch a := array.(type) {
	case []float32:
		return writeNumbers(w, a)
	case []float64:
		return writeNumbers(w, a)
	case []int64:
		return writeNumbers(w, a)
	case []int32:
		return writeNumbers(w, a)
	}
	return nil
}

func readArray(r io.Reader, array any) error {
	switch a := array.(type) {
	case []float32:
		return readNumbers(r, a)
	case []float64:
		return readNumbers(r, a)
	case []int64:
		return readNumbers(r, a)
	case []int32:
		return readNumbers(r, a)
	}
	return nil
}

func writeNumbers[T float32 | float64 | int64 | int32](w io.Writer, v []T) error {
	buf := make([]byte, 0, 8*min(chunk, len(v)))
	for len(v) > 0 {
		n := min(chunk, len(v))
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, v[:n])
		if _, err := w.Write(buf); err != nil {
			return err
		}
		v = v[n:]
	}
	return nil
}

func readNumbers[T float32 | float64 | int64 | int32](r io.Reader, v []T) error {
	var one T
	size := binary.Size(one)
	buf := make([]byte, size*min(chunk, len(v)))
	for len(v) > 0 {
		n := min(chunk, len(v))
		if _, err := io.ReadFull(r, buf[:n*size]); err != nil {
			return err
		}
		binary.Decode(buf[:n*size], binary.LittleEndian, v[:n])
		v = v[n:]
	}
	return nil
}

// Get reads a part into info, a pointer to what was given to Put, and arrays, which
// must have the lengths that they were put with. It returns false when there is no
// such part and, with a line to Options.Log, when the one that is there cannot be
// used; info and arrays then hold anything.
func (s *Store) Get(kind string, key Key, info any, arrays ...any) bool {
	name := s.name(kind, key, "part")
	f, size, err := s.open(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = readPart(f, size, kind, key, info, arrays)
		f.Close()
	}
	if err != nil {
		s.reject(name, err)
		return false
	}
	return true
}

// readPart reads a part of size bytes. Nothing is allocated that is larger than
// that.
func readPart(f io.Reader, size int64, kind string, key Key, info any, arrays []any) error {
	heads := int64(partHead + arrayHead*len(arrays))
	if size < heads+sha256.Size {
		return errDamaged
	}
	sum := sha256.New()
	r := &summed{r: bufio.NewReaderSize(f, 1<<18), sum: sum}
	head := make([]byte, heads)
	if _, err := io.ReadFull(r, head); err != nil {
		return errDamaged
	}
	le := binary.LittleEndian
	n := le.Uint64(head[partHead-8:])
	var bytesOf int64
	for _, a := range arrays {
		_, count, width := describe(a)
		bytesOf += int64(count) * int64(width)
	}
	switch {
	case string(head[:8]) != partMagic:
		return errForeign
	case le.Uint32(head[8:]) != version:
		return errVersion
	case le.Uint32(head[12:]) != uint32(len(arrays)):
		return errShape
	case n > uint64(size-heads-sha256.Size):
		return errDamaged
	}
	// With the right number of bytes for the info this is what Put would have
	// begun with.
	want := partHeader(kind, key, int(n), arrays)
	switch {
	case !bytes.Equal(head[16:partHead], want[16:partHead]):
		return errKey
	case !bytes.Equal(head, want):
		return errShape
	case size != heads+int64(n)+bytesOf+sha256.Size:
		return errDamaged
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return errDamaged
	}
	for _, a := range arrays {
		if err := readArray(r, a); err != nil {
			return errDamaged
		}
	}
	got := sum.Sum(nil)
	stored := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r.r, stored); err != nil || !bytes.Equal(got, stored) {
		return errDamaged
	}
	if err := json.Unmarshal(text, info); err != nil {
		return errDamaged
	}
	return nil
}

// summed hashes what is read from r.
type summed struct {
	r   io.Reader
	sum hash.Hash
}

func (s *summed) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.sum.Write(b[:n])
	return n, err
}
