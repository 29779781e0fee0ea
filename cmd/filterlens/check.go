package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect"
)

// ignoredCodes reads --ignore.
func ignoredCodes(c *cli.Context) ([]string, error) {
	if !c.IsSet("ignore") {
		return nil, nil
	}
	if !c.Bool("check") {
		return nil, usage("--ignore needs --check")
	}
	var codes []string
	known := inspect.FindingCodes()
	for _, v := range c.StringSlice("ignore") {
		for code := range strings.SplitSeq(v, ",") {
			code = strings.TrimSpace(code)
			if !slices.Contains(known, code) {
				return nil, usage("--ignore: no finding has the code %q; the codes are %s", code, strings.Join(known, ", "))
			}
			codes = append(codes, code)
		}
	}
	return codes, nil
}

// findings checks a model; the list is never nil.
func (in *inspection) findings(ctx context.Context, m *inspect.Model) ([]inspect.Finding, error) {
	all, err := m.Findings(ctx, inspect.FindingOptions{Weights: !in.c.Bool("no-weights")})
	if err != nil {
		return nil, err
	}
	kept := []inspect.Finding{}
	for _, f := range all {
		if !slices.Contains(in.ignore, f.Code) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}

// verdict is the error of a check that found something.
func verdict(findings []inspect.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	errors := 0
	for _, f := range findings {
		if f.Level == "error" {
			errors++
		}
	}
	return &verdictError{plural(len(findings), "finding") + ": " + levels(errors, len(findings)-errors)}
}

// levels counts findings: "1 error, 2 warnings".
func levels(errors, warnings int) string {
	switch {
	case warnings == 0:
		return plural(errors, "error")
	case errors == 0:
		return plural(warnings, "warning")
	}
	return fmt.Sprintf("%s, %s", plural(errors, "error"), plural(warnings, "warning"))
}
