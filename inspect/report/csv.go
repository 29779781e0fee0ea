package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ErrNoTable says that a document has nothing to write as CSV.
var ErrNoTable = errors.New("this report has no table; write it as text or json")

// WriteCSV writes the main tables of documents one below the other under one
// header, which must be the same in all of them. When there are several
// documents a first column holds their titles. Values are unrounded, unknown
// ones empty.
func WriteCSV(w io.Writer, docs ...Document) error {
	c := csv.NewWriter(w)
	wrote := false
	for _, d := range docs {
		for _, s := range d.Sections {
			if s.Table == nil || !s.Table.Main {
				continue
			}
			var title []string
			if len(docs) > 1 {
				title = []string{d.Title}
			}
			if !wrote {
				head := make([]string, 0, len(s.Table.Columns)+1)
				if title != nil {
					head = append(head, "file")
				}
				for _, col := range s.Table.Columns {
					head = append(head, col.Key)
				}
				c.Write(head)
				wrote = true
			}
			for _, row := range s.Table.Rows {
				line := append([]string(nil), title...)
				for _, cell := range row {
					line = append(line, rawText(cell.Raw))
				}
				c.Write(line)
			}
		}
	}
	if !wrote {
		return ErrNoTable
	}
	c.Flush()
	return c.Error()
}

func rawText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}
