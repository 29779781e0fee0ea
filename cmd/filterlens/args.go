package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a verb before its other arguments, for the flag
// parser stops at the first argument that is none, and people write
// `inspect model.onnx --data dir`. Switches before the verb move behind it.
func arrange(commands []*cli.Command, args []string) ([]string, error) {
	verb := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if verb < 0 {
		return args, nil
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[verb]) })
	if i < 0 {
		return args, nil
	}
	known := flagsOf(commands[i])
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
		case name == "h" || name == "help":
			// With arguments the library takes them for topics of help.
			return []string{args[verb], "--help"}, nil
		case name == "filters" && !hasValue:
			// Its value is optional: bare, it means all layers.
			s += "=" + allLayers
		case !hasValue && known[name]:
			if len(a) == 1 || isKnown(known, a[1]) {
				return nil, usage("flag %s needs a value", dashed(name))
			}
			flags = append(flags, s)
			a = a[1:]
			s = a[0]
		}
		flags = append(flags, s)
	}
	return slices.Concat([]string{args[verb]}, flags, []string{"--"}, rest), nil
}

// flagsOf returns the names of a verb's flags, and whether they take a value.
func flagsOf(c *cli.Command) map[string]bool {
	m := map[string]bool{"help": false, "h": false}
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, n := range f.Names() {
			m[n] = ok && d.TakesValue()
		}
	}
	return m
}

// isKnown tells whether an argument is one of the flags rather than a value that
// begins with a dash, such as a negative number.
func isKnown(flags map[string]bool, arg string) bool {
	if !strings.HasPrefix(arg, "-") || arg == "-" {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	_, ok := flags[name]
	return ok || arg == "--"
}
