package plot

import (
	"image/color"
	"strings"
	"unicode"
	"unicode/utf8"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	stdfont "golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
)

// typefaces are the two fonts of a picture. Liberation Sans has the widths of
// Arial and Helvetica, so that an SVG file, which only names its fonts, looks the
// same where it is shown with one of these.
type typefaces struct {
	regular, bold *opentype.Font
	buf           sfnt.Buffer
}

func newTypefaces() (*typefaces, error) {
	regular, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return nil, err
	}
	bold, err := opentype.Parse(liberationsansbold.TTF)
	return &typefaces{regular: regular, bold: bold}, err
}

// style says how a text looks and how it lies about its point.
type style struct {
	size  vg.Length
	bold  bool
	color color.Color
	// across is the part of the width that lies left of the point; up the part of
	// the height of capitals that lies below it.
	across, up float64
	turn       float64 // counterclockwise, in radians
}

// capital is the height of capitals, as a share of the size.
const capital = 0.72

func (t *typefaces) face(st style) font.Face {
	f := font.Face{Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: st.size}, Face: t.regular}
	if st.bold {
		f.Font.Weight, f.Face = stdfont.WeightBold, t.bold
	}
	return f
}

// width returns how wide s is drawn. Letters that the font lacks are drawn with
// another one, if at all, and count as squares.
func (t *typefaces) width(s string, st style) vg.Length {
	face := t.face(st)
	missing := 0
	s = strings.Map(func(r rune) rune {
		if t.has(r) {
			return r
		}
		missing++
		return -1
	}, s)
	return face.Width(s) + vg.Length(missing)*st.size
}

// has tells whether the font has the letter.
func (t *typefaces) has(r rune) bool {
	i, err := t.regular.GlyphIndex(&t.buf, r)
	return err == nil && i != 0
}

// covers tells whether the font has all letters of s.
func (t *typefaces) covers(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !t.has(r) }) < 0
}

// fit shortens s in the middle until it is no wider than max. The end of a name
// tells more than its beginning.
func (t *typefaces) fit(s string, st style, max vg.Length) string {
	// No letter is narrower than a sixth of the size; a name from a file may be
	// as long as it likes.
	if limit := 2 + int(6*max/st.size); utf8.RuneCountInString(s) > 2*limit {
		r := []rune(s)
		s = string(r[:limit]) + string(r[len(r)-limit:])
	}
	if t.width(s, st) <= max {
		return s
	}
	r := []rune(s)
	for n := len(r) - 1; n > 0; n-- {
		head := n / 3
		if short := string(r[:head]) + "…" + string(r[len(r)-(n-head):]); t.width(short, st) <= max {
			return short
		}
	}
	return "…"
}

// wrap cuts s into lines no wider than max, at spaces.
func (t *typefaces) wrap(s string, st style, max vg.Length) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		longer := strings.TrimSpace(line + " " + word)
		if line != "" && t.width(longer, st) > max {
			lines = append(lines, line)
			longer = word
		}
		line = longer
	}
	if line == "" {
		return lines
	}
	return append(lines, line)
}

// clean replaces what cannot be printed, like control characters, which a name in
// a file may hold and XML may not.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
