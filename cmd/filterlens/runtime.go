package main

import (
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/report"
)

func runtimeCommand() *cli.Command {
	return &cli.Command{
		Name:        "runtime",
		Usage:       "which ONNX Runtime is used and what it can run on; get it",
		UsageText:   "filterlens runtime [flags]\nfilterlens runtime install [--ep cuda] [flags]",
		Description: "Lists the engines of this binary, too. Ends with 3 when there is no ONNX Runtime,\nalthough the pure-Go engine runs models without it.",
		Flags: slices.Concat(outputFlags("write to `FILE` (- is standard output)"), libraryFlags(), []cli.Flag{
			&cli.StringFlag{Name: "ep", Value: ort.CPU, Usage: "what install gets: the library for cpu, or what fits the GPU's driver for cuda", Category: groupRun},
		}),
		Action: describeRuntime,
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
	ep := c.String("ep")
	switch {
	case ep != ort.CPU && ep != ort.CUDA:
		return usage("--ep %q: the execution providers are cpu and cuda", ep)
	case c.IsSet("ep") && !install:
		return usage("runtime tries every execution provider; --ep goes with runtime install")
	}
	out, err := outputOf(c)
	if err != nil {
		return err
	}
	k := newConsole(c)
	defer k.finish()
	opt := libraryOptions(c, k)
	opt.Provider = ep
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
	var missing *engine.UnavailableError
	if err != nil && !errors.As(err, &missing) {
		return err
	}
	if install {
		info.Library.Source = "cache"
	}
	r := report.NewRuntime(info, engines(info, missing))
	if werr := out.report(k, r, report.FromRuntime(r)); werr != nil {
		return werr
	}
	return err
}

// engines says which engines there are; missing is why ONNX Runtime is none.
func engines(info ort.Info, missing *engine.UnavailableError) []report.RuntimeEngine {
	pure := gorgonia.Open(gorgonia.Options{})
	defer pure.Close()
	runtime := report.RuntimeEngine{Name: ortEngine, Version: info.Version, Usable: missing == nil}
	if missing != nil {
		runtime.Reason = because(missing)
	}
	return []report.RuntimeEngine{runtime, {Name: pure.Name(), Version: pure.Version(), Usable: true}}
}
