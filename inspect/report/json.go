package report

import (
	"bytes"
	"encoding/json"
	"io"
	"iter"
)

// WriteJSON writes v, indented, with lists of plain values on one line each so
// that a file with millions of numbers can still be read by a person.
func WriteJSON(w io.Writer, v any) error {
	b, err := encodeJSON(v, 0)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// WriteJSONs writes a list of objects as WriteJSON does, of values that are made
// while it is written.
func WriteJSONs(w io.Writer, values iter.Seq[any]) error {
	before := "[\n  "
	for v := range values {
		b, err := encodeJSON(v, 1)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if before[0] == '[' {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// encodeJSON returns v indented as a part at some depth.
func encodeJSON(v any, depth int) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return indentJSON(bytes.TrimSpace(b.Bytes()), depth), nil
}

// indentJSON indents compact JSON that begins at some depth.
func indentJSON(src []byte, depth int) []byte {
	dst := make([]byte, 0, len(src)+len(src)/4)
	breakLine := func() {
		dst = append(dst, '\n')
		for range depth {
			dst = append(dst, "  "...)
		}
	}
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case '"':
			end := stringEnd(src, i)
			dst = append(dst, src[i:end]...)
			i = end - 1
		case '{', '[':
			if end := flatEnd(src, i); end > 0 {
				dst = append(dst, src[i:end]...)
				i = end - 1
				continue
			}
			depth++
			dst = append(dst, c)
			breakLine()
		case '}', ']':
			depth--
			breakLine()
			dst = append(dst, c)
		case ',':
			dst = append(dst, c)
			breakLine()
		case ':':
			dst = append(dst, ": "...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// stringEnd returns the position behind the string that begins at i.
func stringEnd(src []byte, i int) int {
	for i++; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(src)
}

// flatEnd returns the position behind the list at i when it holds no list or
// object, or behind an empty object, else 0.
func flatEnd(src []byte, i int) int {
	if src[i] == '{' {
		if i+1 < len(src) && src[i+1] == '}' {
			return i + 2
		}
		return 0
	}
	for j := i + 1; j < len(src); j++ {
		switch src[j] {
		case '"':
			j = stringEnd(src, j) - 1
		case '[', '{':
			return 0
		case ']':
			return j + 1
		}
	}
	return 0
}
