package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
)

// ErrNoTable says that a document has nothing to write as CSV.
var ErrNoTable = errors.New("this report has no table; write it as text or json")

// WriteCSV writes the main tables of documents one below the other under one
// header, which must be the same in all of them. A first column holds what each is
// of (Document.Key) or, when there are several documents, their titles, as "file".
// Values are unrounded, unknown ones empty.
func WriteCSV(w io.Writer, docs ...Document) error {
	return WriteCSVs(w, len(docs) > 1, slices.Values(docs))
}

// WriteCSVs is WriteCSV for documents that are made while they are written.
// titles asks for the column of titles. Documents without a main table add
// nothing. Control characters are replaced as in WriteText.
func WriteCSVs(w io.Writer, titles bool, docs iter.Seq[Document]) error {
	c := csv.NewWriter(w)
	wrote := false
	for d := range docs {
		for _, s := range d.Sections {
			if s.Table == nil || !s.Table.Main {
				continue
			}
			var title []string
			key := "file"
			switch {
			case d.Key != "":
				key, title = d.Key, []string{printable(d.Of)}
			case titles:
				title = []string{printable(d.Title)}
			}
			if !wrote {
				head := make([]string, 0, len(s.Table.Columns)+1)
				if title != nil {
					head = append(head, key)
				}
				for _, col := range s.Table.Columns {
					if col.Key != "" {
						head = append(head, col.Key)
					}
				}
				c.Write(head)
				wrote = true
			}
			for _, row := range s.Table.Rows {
				line := append([]string(nil), title...)
				for i, cell := range row {
					if s.Table.Columns[i].Key != "" {
						line = append(line, rawText(cell.Raw))
					}
				}
				c.Write(line)
			}
		}
		if c.Flush(); c.Error() != nil {
			return c.Error()
		}
	}
	if !wrote {
		return ErrNoTable
	}
	return nil
}

func rawText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}
