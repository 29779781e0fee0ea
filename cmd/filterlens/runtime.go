package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/report"
)

func runtimeCommand() *cli.Command {
	return &cli.Command{
		Name:      "runtime",
		Usage:     "which ONNX Runtime is used and what it can run on; get it",
		UsageText: "filterlens runtime [flags]\nfilterlens runtime install [flags]",
		Flags:     slices.Concat(outputFlags("write to `FILE` (- is standard output)"), libraryFlags()),
		Action:    describeRuntime,
	}
}

func describeRuntime(c *cli.Context) error {
	install := false
	switch args := c.Args().Slice(); {
	case len(args) == 1 && args[0] == "install":
		install = true
	case len(args) > 0:
		return usage("runtime takes nothing but install; %q was given", args)
	}
	out, err := outputOf(c)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	opt := libraryOptions(c, k)
	if install {
		if c.IsSet("runtime-library") {
			return usage("runtime install puts the library into the cache; --runtime-library does not go with it")
		}
		if opt.Library, err = ort.Install(c.Context, opt); err != nil {
			return err
		}
		k.log("installed " + opt.Library)
	}
	info, err := ort.Describe(c.Context, opt)
	if err != nil {
		return err
	}
	if install {
		info.Library.Source = "cache"
	}
	r := report.NewRuntime(info)
	return out.report(k, r, report.FromRuntime(r))
}
