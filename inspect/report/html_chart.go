package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/filterlens/filterlens/inspect"
)

// A htmlChart shows one number of all layers as columns side by side.
type htmlChart struct {
	Label, Most string
	Count       int
	Bars        []htmlBars
}

// htmlBars are the columns of one operator family as one path, in units of one
// layer across and of 100 for the largest value down.
type htmlBars struct{ Family, Path string }

// chart draws the columns of a series. It says in words where the most is, which
// is what the chart is looked at for.
func (n *network) chart(s *series, layers []inspect.Layer) htmlChart {
	c := htmlChart{Label: s.label, Count: len(layers)}
	// Columns stand apart as long as there is room for it; many are drawn as one
	// outline, which has no seams.
	apart := len(layers) <= 150
	paths := make(map[string]*strings.Builder)
	var order []string
	top, open := 0, ""
	shut := func() {
		if open != "" {
			paths[open].WriteString("V100z")
			open = ""
		}
	}
	for i, l := range layers {
		v, _ := s.inTotal(l)
		if v == nil || *v <= 0 {
			shut()
			continue
		}
		if most, _ := s.inTotal(layers[top]); most == nil || *v > *most {
			top = i
		}
		f := n.layerFamily(l)
		if paths[f] == nil {
			paths[f] = new(strings.Builder)
			order = append(order, f)
		}
		y := trim(100 - max(1.5, 100*float64(*v)/float64(s.most)))
		if apart {
			fmt.Fprintf(paths[f], "M%s 100V%sh.84V100z", trim(float64(i)+0.08), y)
			continue
		}
		if open != f {
			shut()
			fmt.Fprintf(paths[f], "M%d 100", i)
			open = f
		}
		fmt.Fprintf(paths[f], "V%sH%d", y, i+1)
	}
	shut()
	slices.Sort(order)
	for _, f := range order {
		c.Bars = append(c.Bars, htmlBars{f, paths[f].String()})
	}
	l := layers[top]
	known := ""
	if s.missing != "" {
		known = " known"
	}
	c.Most = fmt.Sprintf("most%s in %s: %s", known, printable(modulePath(l.Name, l.Op)), s.cell(s.most).Text)
	if share := s.share(l); share != "" {
		c.Most += ", " + share
	} else if _, sure := s.inTotal(l); !sure {
		c.Most += " at most"
	}
	if s.missing != "" {
		c.Most += "; " + s.missing
	}
	return c
}

// sparkline draws a histogram in a square of 100 x 100 as one path.
func sparkline(bins []int64) string {
	if len(bins) == 0 {
		return ""
	}
	most := slices.Max(bins)
	if most <= 0 {
		return ""
	}
	var b strings.Builder
	w := 100 / float64(len(bins))
	for i, n := range bins {
		if n > 0 {
			h := max(2, 100*float64(n)/float64(most))
			fmt.Fprintf(&b, "M%s 100v-%sh%sv%sz", trim(float64(i)*w), trim(h), trim(w*0.9), trim(h))
		}
	}
	return b.String()
}

// trim writes a coordinate with two decimals at most.
func trim(v float64) string {
	s := strconv.FormatFloat(v, 'f', 2, 64)
	s = strings.TrimRight(s, "0")
	return strings.TrimSuffix(s, ".")
}
