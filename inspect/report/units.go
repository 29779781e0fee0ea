package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Count returns n with its thousands parted: 138,357,544.
func Count(n int64) Cell {
	return Cell{Text: grouped(n), Raw: n}
}

func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Scaled returns n with four digits and a decimal prefix: 15.47 G.
func Scaled(n int64) Cell { return Cell{Text: strings.TrimSpace(prefixed(n, "")), Raw: n} }

// Bytes returns n with four digits and a decimal unit: 553.4 MB.
func Bytes(n int64) Cell { return Cell{Text: prefixed(n, "B"), Raw: n} }

func prefixed(n int64, unit string) string {
	if n < 1000 && n > -1000 {
		return strconv.FormatInt(n, 10) + " " + unit
	}
	v := float64(n)
	for _, p := range "kMGTPE" {
		v /= 1000
		// 999.95 would be written as 1000.
		if math.Abs(v) < 999.95 {
			return digits(v, 4) + " " + string(p) + unit
		}
	}
	return digits(v, 4) + " E" + unit
}

// digits writes v with n digits, those before the point included.
func digits(v float64, n int) string {
	before := 1
	for a := math.Abs(v); a >= 10 && before < n; a /= 10 {
		before++
	}
	return strconv.FormatFloat(v, 'f', n-before, 64)
}

// Share returns a share of 1 in per cent: 12.34 %.
func Share(v float64) Cell { return percent(v, 2) }

func percent(v float64, decimals int) Cell {
	return Cell{Text: strconv.FormatFloat(100*v, 'f', decimals, 64) + " %", Raw: v}
}

// optional returns the cell of a value that may be unknown.
func optional[T any](v *T, cell func(T) Cell, otherwise Cell) Cell {
	if v == nil {
		return otherwise
	}
	return cell(*v)
}

// Number returns v with a fixed number of decimals.
func Number(v float64, decimals int) Cell {
	return Cell{Text: strconv.FormatFloat(v, 'f', decimals, 64), Raw: v}
}

// blocks are the heights of a bar; asciiBlocks stand for them where there are
// no other characters.
const (
	blocks      = " ▁▂▃▄▅▆▇█"
	asciiBlocks = " .:-=+*%@"
)

// histogram draws counts as bars, a character each. What is not zero shows.
func histogram(counts []int64) Cell {
	top := int64(0)
	for _, n := range counts {
		top = max(top, n)
	}
	bars := []rune(blocks)
	raw := make([]string, len(counts))
	var b strings.Builder
	for i, n := range counts {
		raw[i] = strconv.FormatInt(n, 10)
		h := 0
		if n > 0 {
			h = max(1, int(math.Round(float64(n)/float64(top)*float64(len(bars)-1))))
		}
		b.WriteRune(bars[h])
	}
	return Cell{Text: b.String(), Raw: strings.Join(raw, " ")}
}

func milliseconds(v float64) Cell {
	return Cell{Text: digits(v, 3), Raw: v}
}

// Seconds writes a duration the way a person would say it: 0.8 s, 12 s, 3 min
// 20 s, 2 h 5 min.
func Seconds(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 59.5:
		return fmt.Sprintf("%.0f s", s)
	case s < 3600:
		n := int(s + 0.5)
		return fmt.Sprintf("%d min %d s", n/60, n%60)
	}
	n := int(s/60 + 0.5)
	return fmt.Sprintf("%d h %d min", n/60, n%60)
}

// plural returns "1 filter", "2 filters", "1,234 filters".
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return grouped(int64(n)) + " " + word + "s"
}
