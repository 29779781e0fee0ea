package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

// The engines, as --engine takes them.
const (
	autoEngine  = "auto"
	ortEngine   = "onnxruntime"
	pureEngine  = "gorgonia"
	bothEngines = "both" // of eval only
)

// engineFlag is --engine; more is what a verb takes besides.
func engineFlag(more string) cli.Flag {
	return &cli.StringFlag{Name: "engine", Value: autoEngine, Category: groupRun,
		Usage: "onnxruntime; gorgonia, in pure Go, fewer operators; auto is the first, or the second where there is no ONNX Runtime" + more}
}

// engineNames lists the engines that this binary has.
func engineNames() []string {
	if ort.Available {
		return []string{ortEngine, pureEngine}
	}
	return []string{pureEngine}
}

func libraryOptions(c *cli.Context, k *console) ort.Options {
	return ort.Options{Library: c.String("runtime-library"), Offline: c.Bool("offline"), Log: k.log}
}

// checkEngineFlags refuses what no runtime could make sense of.
func checkEngineFlags(c *cli.Context) error {
	switch ep := c.String("ep"); ep {
	case ort.CPU, ort.CUDA:
	default:
		return usage("--ep %q: the execution providers are cpu and cuda", ep)
	}
	if c.Bool("tf32") && c.String("ep") != ort.CUDA {
		return usage("--tf32 is for --ep cuda; the cpu computes in full precision")
	}
	if err := checkEngineName(c); err != nil {
		return err
	}
	return positive(c, "device-id", "threads", "batch", "limit", "per-label", "resize", "crop")
}

func checkEngineName(c *cli.Context) error {
	names := []string{autoEngine, ortEngine, pureEngine}
	if c.Command.Name == "eval" {
		names = append(names, bothEngines)
	}
	name := c.String("engine")
	if !slices.Contains(names, name) {
		last := len(names) - 1
		return usage("--engine %q: the engines are %s and %s", name, strings.Join(names[:last], ", "), names[last])
	}
	if name != pureEngine {
		return nil
	}
	switch {
	case c.String("ep") != ort.CPU:
		return usage("--engine gorgonia runs on the cpu; --ep %s is for onnxruntime", c.String("ep"))
	case c.IsSet("runtime-library"):
		return usage("--engine gorgonia needs no library; --runtime-library is for onnxruntime")
	case c.IsSet("device-id"):
		return usage("--engine gorgonia runs on the cpu; --device-id is for onnxruntime")
	}
	return nil
}

// withEngine opens the engine that --engine names, calls f with it and closes it.
// Where nothing is named and there is no ONNX Runtime, the pure-Go engine takes its
// place, which is said; what that one does not compute is then refused for both
// reasons.
func withEngine(ctx context.Context, c *cli.Context, k *console, f func(engine.Engine) error) error {
	eng, missing, err := openEngine(ctx, c, k)
	if err != nil {
		return err
	}
	defer eng.Close()
	err = f(eng)
	var lacks *gorgonia.UnsupportedError
	if missing == nil || !errors.As(err, &lacks) {
		return err
	}
	hint := missing.Hint
	if !ort.Available {
		hint = "use a binary built with cgo, which has ONNX Runtime"
	}
	return &engine.UnavailableError{
		What: "no engine runs it: there is no ONNX Runtime (" + because(missing) + "), and " + strings.TrimSuffix(err.Error(), "; run it on ONNX Runtime"),
		Hint: hint,
	}
}

// openEngine returns the engine that --engine names. missing says why the pure-Go
// engine stands in for ONNX Runtime, nil where it does not.
func openEngine(ctx context.Context, c *cli.Context, k *console) (eng engine.Engine, missing *engine.UnavailableError, err error) {
	if c.String("engine") == pureEngine {
		return gorgonia.Open(gorgonia.Options{Threads: c.Int("threads")}), nil, nil
	}
	eng, named, err := openRuntime(ctx, c, k)
	if !errors.As(err, &missing) || named || c.String("engine") != autoEngine || c.String("ep") != ort.CPU {
		return eng, nil, err
	}
	k.say("note: there is no ONNX Runtime (%s); the pure-Go engine runs the model", because(missing))
	return gorgonia.Open(gorgonia.Options{Threads: c.Int("threads")}), missing, nil
}

// openRuntime opens ONNX Runtime. named tells that the user has said which library.
func openRuntime(ctx context.Context, c *cli.Context, k *console) (eng engine.Engine, named bool, err error) {
	opt := libraryOptions(c, k)
	opt.Provider, opt.DeviceID, opt.Threads = c.String("ep"), c.Int("device-id"), c.Int("threads")
	opt.TF32 = c.Bool("tf32")
	lib, err := ort.Locate(ctx, opt)
	if err != nil {
		return nil, opt.Library != "", err
	}
	opt.Library = lib.Path
	named = lib.Source != "cache" && lib.Source != "system" && lib.Source != "fetched"
	eng, err = ort.Open(ctx, opt)
	return eng, named, err
}

// because is what an error says without its hint.
func because(e *engine.UnavailableError) string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.What, e.Err)
	}
	return e.What
}
