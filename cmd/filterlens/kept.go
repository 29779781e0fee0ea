package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/filterlens/filterlens/afcc/probe"
	"github.com/filterlens/filterlens/afcc/probe/state"
)

// knownResult returns what an earlier run has written to -o, nil when there is
// nothing that could answer this one.
func knownResult(c *cli.Context, k *console, out output) *probe.Result {
	if out.format != jsonOut || out.path == "" || c.Bool("fresh") || isDevice(out.path) {
		return nil
	}
	res, err := readResult(out.path)
	if err != nil {
		// What stands there is about to be replaced anyway.
		if !errors.Is(err, fs.ErrNotExist) {
			k.note("%v", err)
		}
		return nil
	}
	return res
}

// sayReused tells whether what -o held before was the answer, and if not why.
func sayReused(k *console, path string, known, res *probe.Result) {
	switch {
	case known == nil:
	case known == res:
		k.log(path + " holds the answer: model, data and settings are the same; nothing was run (--fresh measures anew)")
	default:
		ok, why := known.Answers(res.Identity())
		if ok {
			why = "it keeps no field matrices; --resume DIR does"
		}
		k.log("measured anew, for " + path + " does not hold the answer: " + why)
	}
}

// openState opens the folder of --resume, nil when there is none. It must be
// closed.
func openState(c *cli.Context, k *console) (*state.Store, error) {
	if !c.IsSet("resume") {
		return nil, nil
	}
	dir := c.String("resume")
	switch {
	case dir == "":
		return nil, usage("--resume needs the name of a folder")
	case c.Bool("fresh"):
		return nil, usage("--fresh and --resume contradict each other; to measure anew give another folder")
	}
	s, err := state.Open(dir, state.Options{Log: k.log})
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	if size, err := s.Size(); err == nil && size > 0 {
		k.note("%s holds %d bytes of earlier work", dir, size)
	}
	return s, nil
}

// sayKept tells how an interrupted measurement goes on.
func sayKept(ctx context.Context, c *cli.Context, k *console) {
	if ctx.Err() != nil && c.IsSet("resume") {
		k.log("what was found so far is kept in " + c.String("resume") + "; the same command goes on from there")
	}
}
