package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a verb before its other arguments, for the flag
// parser stops at the first argument that is none, and people write
// `inspect model.onnx --data dir`. Switches before the verb move behind it.
func arrange(commands []*cli.Command, args []string) []string {
	verb := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if verb < 0 {
		return args
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[verb]) })
	if i < 0 {
		return args
	}
	takesValue := valueFlags(commands[i])
	flags := slices.Clone(args[:verb])
	var rest []string
	for a := args[verb+1:]; len(a) > 0; a = a[1:] {
		s := a[0]
		if s == "--" {
			rest = append(rest, a[1:]...)
			break
		}
		if s == "-" || !strings.HasPrefix(s, "-") {
			rest = append(rest, s)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(s, "-"), "=")
		switch {
		case name == "filters" && !hasValue:
			// Its value is optional: bare, it means all layers.
			s += "=" + allLayers
		case !hasValue && takesValue[name] && len(a) > 1:
			flags = append(flags, s)
			a = a[1:]
			s = a[0]
		}
		flags = append(flags, s)
	}
	return slices.Concat([]string{args[verb]}, flags, []string{"--"}, rest)
}

// valueFlags returns the names of the flags that take a value.
func valueFlags(c *cli.Command) map[string]bool {
	m := map[string]bool{}
	for _, f := range c.Flags {
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() {
			for _, n := range f.Names() {
				m[n] = true
			}
		}
	}
	return m
}
