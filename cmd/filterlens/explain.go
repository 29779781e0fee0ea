package main

import (
	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/report"
)

// explain is inspect --explain without anything to explain.
func explain(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		switch name := f.Names()[0]; name {
		case "explain", "output", "format", "quiet", "verbose", "no-color":
		default:
			if c.IsSet(name) {
				return usage("%s does nothing with --explain alone; give a model and --data DIR as well", dashed(name))
			}
		}
	}
	out, err := outputOf(c)
	if err != nil {
		return err
	}
	if out.format == csvOut {
		return usage("definitions have no table; write them as text, json or html")
	}
	k := newConsole(c)
	defer k.finish()
	d := report.NewDefinitions()
	return out.report(k, d, report.FromDefinitions(d))
}

// checkExplain refuses --explain where nothing would be explained.
func checkExplain(c *cli.Context, out output) error {
	if !c.Bool("explain") || out.format == text || out.path != "" && !c.Bool("quiet") {
		return nil
	}
	return usage("--explain stands below tables of text; filterlens inspect --explain -f %s writes the definitions alone", map[bool]string{true: jsonOut, false: out.format}[out.format == csvOut])
}
