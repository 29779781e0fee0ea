package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

// The words of --statistics.
const (
	sweepWord     = "sweep"
	stabilityWord = "stability"
	orderWord     = "order"
	singleWord    = "single"
	confusionWord = "confusion"
	topWord       = "top"
	allWord       = "all"
	noneWord      = "none"
)

var statisticWords = []string{sweepWord, stabilityWord, orderWord, singleWord, confusionWord, topWord}

// What statistics are made with, unless flags say otherwise.
const (
	splitHalves       = 2
	defaultOrders     = 20
	defaultTopSamples = 9
)

// defaultStatistics are made when nothing else is asked for; they cost little, or
// are left out (probe.Options.StabilityIfFree). A page has pictures of more.
func defaultStatistics(format string) []string {
	if format == htmlOut {
		return []string{stabilityWord, confusionWord, sweepWord, topWord}
	}
	return []string{stabilityWord, confusionWord}
}

func statisticFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "thetas", DefaultText: "0,0.1 to 0.9", Usage: "thresholds `A,B` of the sweep; implies sweep", Category: groupStatistics},
		&cli.IntFlag{Name: "stability-runs", DefaultText: "2: split halves", Usage: "stability compares `N` measurements, 3 and more are bootstrap resamples; implies stability", Category: groupStatistics},
		&cli.IntFlag{Name: "orders", DefaultText: strconv.Itoa(defaultOrders), Usage: "`N` random orders of the labels; implies order", Category: groupStatistics},
		&cli.IntFlag{Name: "top-samples", DefaultText: strconv.Itoa(defaultTopSamples), Usage: "keep the `N` samples that a filter answers most; implies top", Category: groupStatistics},
	}
}

// statisticsOf reads the flags that say what is measured of the filters besides
// their clusters. format is that of the report; what pictures show is measured in
// any case.
func statisticsOf(c *cli.Context, format string, pictures []*picture, opt *probe.Options) error {
	words := defaultStatistics(format)
	if c.IsSet("statistics") {
		var err error
		if words, err = nameList("--statistics", c.String("statistics")); err != nil {
			return err
		}
		if len(words) == 0 {
			return usage("--statistics names nothing; write --statistics none for none")
		}
	}
	asked := map[string]bool{}
	for _, w := range words {
		switch {
		case w == allWord:
			for _, w := range statisticWords {
				asked[w] = true
			}
		case w == noneWord && len(words) > 1:
			return usage("--statistics %s: none does not go with others", c.String("statistics"))
		case w == noneWord:
		case slices.Contains(statisticWords, w):
			asked[w] = true
		default:
			return usage("--statistics %q: the statistics are %s, all and none", w, strings.Join(statisticWords, ", "))
		}
	}
	for flag, word := range map[string]string{"thetas": sweepWord, "stability-runs": stabilityWord, "orders": orderWord, "top-samples": topWord} {
		asked[word] = asked[word] || c.IsSet(flag)
	}
	// What is made by default alone may be left out where it costs more.
	wanted := c.IsSet("statistics") || c.IsSet("stability-runs")
	for _, p := range pictures {
		asked[sweepWord] = asked[sweepWord] || p.NeedsSweep()
		asked[stabilityWord] = asked[stabilityWord] || p.NeedsStability()
		wanted = wanted || p.NeedsStability()
	}
	opt.StabilityIfFree = !wanted
	for _, f := range []struct {
		flag  string
		least int
		why   string
	}{
		{"stability-runs", splitHalves, "it takes two measurements to compare"},
		{"orders", 1, "it must be 1 or more"},
		{"top-samples", 1, "it must be 1 or more"},
	} {
		if c.IsSet(f.flag) && c.Int(f.flag) < f.least {
			return usage("%s %d: %s", dashed(f.flag), c.Int(f.flag), f.why)
		}
	}
	orElse := func(flag, word string, otherwise int) int {
		switch {
		case !asked[word]:
			return 0
		case c.IsSet(flag):
			return c.Int(flag)
		}
		return otherwise
	}
	opt.Stability = orElse("stability-runs", stabilityWord, splitHalves)
	opt.Orders = orElse("orders", orderWord, defaultOrders)
	opt.Top = orElse("top-samples", topWord, defaultTopSamples)
	opt.Confusion, opt.Single = asked[confusionWord], asked[singleWord]
	if asked[sweepWord] {
		var err error
		opt.Thetas, err = thetasOf(c)
		return err
	}
	return nil
}

// thetasOf returns the thresholds of --thetas, ascending.
func thetasOf(c *cli.Context) (list []float64, err error) {
	if !c.IsSet("thetas") {
		for i := range 10 {
			list = append(list, float64(i)/10)
		}
		return list, nil
	}
	for part := range strings.SplitSeq(c.String("thetas"), ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return nil, usage("--thetas %q: %q is no number; write A,B,C", c.String("thetas"), part)
		}
		if err := afcc.CheckTheta(v); err != nil {
			return nil, fmt.Errorf("--thetas: %w", err)
		}
		list = append(list, v)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
