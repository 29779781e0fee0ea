package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Rows are a file that grows by blocks, each a note and arrays of float32: the
// features of one batch after the other. It begins with
//
//	8 bytes  magic
//	8        version
//	32       key
//	16       kind, filled up with zeros
//	8        CRC-64 of all before
//
// and a block is
//
//	8        its number, from 0
//	8        bytes of the note, 8 the number of values
//	         the note
//	8        CRC-64 of the block up to here
//	         the values
//	8        CRC-64 of the values
//
// with the polynomial of ECMA-182, all numbers little-endian.
const (
	rowsMagic = "FLROWS.\n"
	rowsHead  = 8 + 8 + len(Key{}) + kindLen + 8
	blockHead = 8 + 8 + 8
	// maxNote is the largest note in bytes.
	maxNote = 1 << 24
)

// Rows reads the blocks that are there, then appends. It is for one goroutine.
type Rows struct {
	s     *Store
	name  string
	f     *os.File
	size  int64 // of the file as it was opened
	end   int64 // behind the last block that was read or written
	n     uint64
	r     *bufio.Reader
	w     *bufio.Writer
	table *crc64.Table
	// values is the number of values of the block whose note was read, -1 when
	// none is pending, and pending the bytes of its head.
	values  int64
	pending int64
	dirty   bool
}

// Rows opens the rows of that name and begins them anew when they are not there
// or cannot be used, which is said to Options.Log. The error is an *Error.
func (s *Store) Rows(kind string, key Key) (*Rows, error) {
	name := s.name(kind, key, "rows")
	table := crc64.MakeTable(crc64.ECMA)
	f, size, err := s.open(name, os.O_RDWR)
	if err == nil {
		head := make([]byte, rowsHead)
		if _, rerr := io.ReadFull(f, head); rerr != nil || string(head) != string(rowsHeader(kind, key, table)) {
			f.Close()
			s.reject(name, errDamaged)
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = s.replace(name, func(f *os.File) error {
			_, err := f.Write(rowsHeader(kind, key, table))
			return err
		})
		if err != nil {
			return nil, err
		}
		f, size, err = s.open(name, os.O_RDWR)
		if err == nil {
			_, err = f.Seek(int64(rowsHead), io.SeekStart)
		}
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, &Error{Op: "open", Path: filepath.Join(s.dir, name), Err: err}
	}
	return &Rows{s: s, name: name, f: f, size: size, end: int64(rowsHead), r: bufio.NewReaderSize(f, 1<<18), table: table, values: -1}, nil
}

func rowsHeader(kind string, key Key, table *crc64.Table) []byte {
	h := binary.LittleEndian.AppendUint64([]byte(rowsMagic), version)
	h = append(h, key[:]...)
	h = append(h, kind...)
	h = append(h, make([]byte, kindLen-len(kind))...)
	return binary.LittleEndian.AppendUint64(h, crc64.Checksum(h, table))
}

// Next returns the note of the next block and the number of its values, false
// when there is none that is whole. Fill must follow for the block to count.
func (r *Rows) Next() (note []byte, values int64, ok bool) {
	r.values = -1
	if r.r == nil || r.size-r.end < blockHead+16 {
		return nil, 0, false
	}
	fail := func() ([]byte, int64, bool) {
		r.r = nil
		return nil, 0, false
	}
	head := make([]byte, blockHead)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return fail()
	}
	le := binary.LittleEndian
	number, n, v := le.Uint64(head), le.Uint64(head[8:]), le.Uint64(head[16:])
	left := uint64(r.size - r.end - blockHead - 16)
	if number != r.n || n > min(left, maxNote) || v > (left-n)/4 {
		return fail()
	}
	text := make([]byte, n+8)
	if _, err := io.ReadFull(r.r, text); err != nil {
		return fail()
	}
	sum := crc64.Update(crc64.Checksum(head, r.table), r.table, text[:n])
	if sum != le.Uint64(text[n:]) {
		return fail()
	}
	r.values, r.pending = int64(v), int64(blockHead+n+8)
	return text[:n], r.values, true
}

// Fill reads the values of the block whose note was read last into arrays, one
// after the other. It returns false when they are not that many or damaged: the
// block and all behind it then count as not there, and arrays hold anything.
func (r *Rows) Fill(arrays ...[]float32) bool {
	values := r.values
	r.values = -1
	var want int64
	for _, a := range arrays {
		want += int64(len(a))
	}
	if r.r == nil || values != want {
		r.r = nil
		return false
	}
	sum := crc64.New(r.table)
	in := &summed{r: r.r, sum: sum}
	for _, a := range arrays {
		if err := readNumbers(in, a); err != nil {
			r.r = nil
			return false
		}
	}
	stored := make([]byte, 8)
	if _, err := io.ReadFull(r.r, stored); err != nil || binary.LittleEndian.Uint64(stored) != sum.Sum64() {
		r.r = nil
		return false
	}
	r.end += r.pending + 4*values + 8
	r.n++
	return true
}

// Append adds a block behind those that were read; what else is in the file is cut
// off. The block lasts through a loss of power only after Sync. The error is an
// *Error.
func (r *Rows) Append(note []byte, arrays ...[]float32) error {
	if err := r.append(note, arrays); err != nil {
		return &Error{Op: "write", Path: r.s.dir, Err: err}
	}
	return nil
}

func (r *Rows) append(note []byte, arrays [][]float32) error {
	if len(note) > maxNote {
		return errors.New("a note is too long")
	}
	if r.w == nil {
		r.r, r.values = nil, -1
		if err := r.f.Truncate(r.end); err != nil {
			return err
		}
		if _, err := r.f.Seek(r.end, io.SeekStart); err != nil {
			return err
		}
		r.w = bufio.NewWriterSize(r.f, 1<<18)
	}
	var values int
	for _, a := range arrays {
		values += len(a)
	}
	le := binary.LittleEndian
	head := le.AppendUint64(nil, r.n)
	head = le.AppendUint64(head, uint64(len(note)))
	head = le.AppendUint64(head, uint64(values))
	head = append(head, note...)
	head = le.AppendUint64(head, crc64.Checksum(head, r.table))
	r.w.Write(head)
	sum := crc64.New(r.table)
	out := io.MultiWriter(r.w, sum)
	for _, a := range arrays {
		if err := writeNumbers(out, a); err != nil {
			return err
		}
	}
	if _, err := r.w.Write(le.AppendUint64(nil, sum.Sum64())); err != nil {
		return err
	}
	r.end += int64(len(head)) + 4*int64(values) + 8
	r.n++
	r.dirty = true
	return nil
}

// Sync makes all blocks last. The error is an *Error.
func (r *Rows) Sync() error {
	if !r.dirty {
		return nil
	}
	err := r.w.Flush()
	if err == nil {
		err = r.f.Sync()
	}
	if err != nil {
		return &Error{Op: "write", Path: r.s.dir, Err: err}
	}
	r.dirty = false
	return nil
}

// Close syncs and closes the file, which stays. The error is an *Error.
func (r *Rows) Close() error {
	err := r.Sync()
	if cerr := r.f.Close(); err == nil && cerr != nil {
		err = &Error{Op: "write", Path: r.s.dir, Err: cerr}
	}
	return err
}
