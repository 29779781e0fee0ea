package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/engine/gorgonia"
	"github.com/filterlens/filterlens/inspect/engine/ort"
)

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
	switch e := c.String("engine"); {
	case e != "" && e != "onnxruntime" && e != "gorgonia":
		return usage("--engine %q: the engines are onnxruntime and gorgonia", e)
	case e == "gorgonia" && c.String("ep") != ort.CPU:
		return usage("--engine gorgonia runs on the cpu; --ep %s is for onnxruntime", c.String("ep"))
	}
	return positive(c, "device-id", "threads", "batch", "limit", "per-label", "resize", "crop")
}

func openEngine(ctx context.Context, c *cli.Context, k *console) (engine.Engine, error) {
	if c.String("engine") == "gorgonia" {
		return gorgonia.Open(), nil
	}
	opt := libraryOptions(c, k)
	opt.Provider, opt.DeviceID, opt.Threads = c.String("ep"), c.Int("device-id"), c.Int("threads")
	opt.TF32 = c.Bool("tf32")
	return ort.Open(ctx, opt)
}
