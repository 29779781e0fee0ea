// Command filterlens inspects ONNX image classifiers, measures what each filter
// recognises, and writes diluted models.
//
//	filterlens inspect MODEL...                     what is in it; nothing is run
//	filterlens inspect MODEL... --check             what is wrong or wasted in it
//	filterlens inspect MODEL --data DIR             and what each filter recognises
//	filterlens inspect --stats stats.json           the same again, from a file
//	filterlens inspect --explain                    what every number means
//	filterlens prune --afcc MODEL --data DIR -o OUT a diluted model, verified
//	filterlens compare A B                          what changed
//	filterlens eval MODEL... --data DIR             accuracy and latency
//	filterlens eval MODEL --engine both             two engines, and where they part
//	filterlens runtime [install]                    which ONNX Runtime; get it
//
// A MODEL of inspect is a file, - for standard input, or a folder, which stands
// for the .onnx files below it. One model is reported in full, several get a row
// each (--full: a report each; JSON always holds full reports, in a list); one
// that cannot be read has a row that says why. --top, --sort, --filter and --depth
// choose what of a model is listed, never what is counted in its totals. The
// forms of JSON are published in inspect/report/schema.
//
// Results go to standard output, everything else to standard error. The exit
// code is 0 when it is done, 1 for a verdict (the models differ, a verification
// failed, a check has findings, two engines part), 2 for what the user can put right (usage, an
// unreadable or malformed file, be it one of many), 3 when the runtime or the
// execution provider could not be loaded, 4 when inference failed, and 130 after
// an interrupt.
//
// Each verb has a file of its own: flags in, one call into the rooms, one report
// out. What a verb computes belongs elsewhere.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	args, err := arrange(app.Commands, args)
	if err == nil {
		err = app.RunContext(ctx, append([]string{"filterlens"}, args...))
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	code := exitCode(err)
	switch {
	case code == exitInterrupted:
		fmt.Fprintln(stderr, "filterlens: interrupted")
	case err != nil && !errors.Is(err, errSaid):
		fmt.Fprintln(stderr, "filterlens: "+oneLine(err.Error()))
	}
	return code
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "print this and exit", DisableDefaultText: true}
	cli.HelpPrinter = printHelp
	app := &cli.App{
		Name:        "filterlens",
		Usage:       "look into ONNX image classifiers: structure, what each filter recognises, diluted models",
		UsageText:   "filterlens VERB [flags] ...   (flags may stand anywhere behind the verb)",
		Description: "Exit codes: 0 done; 1 a verdict (compare: they differ; prune: verification failed; inspect --check: findings;\neval --engine both: they part); 2 usage, or an unreadable or malformed file; 3 the runtime\nor the execution provider could not be loaded; 4 inference failed; 130 interrupted.",
		Reader:      stdin, Writer: stdout, ErrWriter: stderr,
		HideVersion: true, HideHelpCommand: true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageErrorOf,
		Flags:                     []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print version and build, and exit", DisableDefaultText: true}},
		Commands:                  []*cli.Command{inspectCommand(), pruneCommand(), compareCommand(), evalCommand(), runtimeCommand()},
	}
	app.Action = func(c *cli.Context) error {
		switch {
		case c.Bool("version"):
			_, err := fmt.Fprintln(stdout, version())
			return err
		case c.Args().Present():
			return usage("unknown verb %q; the verbs are inspect, prune, compare, eval and runtime", c.Args().First())
		}
		return cli.ShowAppHelp(c)
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true
		c.OnUsageError = usageErrorOf
		c.Flags = append(c.Flags, &cli.BoolFlag{Name: "version", Usage: "print version and build, and exit", DisableDefaultText: true})
		action := c.Action
		c.Action = func(c *cli.Context) error {
			if c.Bool("version") {
				_, err := fmt.Fprintln(stdout, version())
				return err
			}
			return action(c)
		}
	}
	return app
}

// version tells what was built, from the information that the linker left.
func version() string {
	v, rev, dirty := "unknown version", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				rev = " " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					dirty = " with changes"
				}
			}
		}
	}
	return fmt.Sprintf("filterlens %s%s%s (%s %s/%s; engines: %s)", v, rev, dirty, runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(engineNames(), ", "))
}

var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	badValue    = regexp.MustCompile(`^invalid (?:boolean )?value "(.*)" for (?:flag )?-+([^:]+): (.*)$`)
	noValue     = regexp.MustCompile(`^flag needs an argument: -+(.*)$`)
)

// usageErrorOf turns what the flag parser says into one line with a hint.
func usageErrorOf(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if m := unknownFlag.FindStringSubmatch(text); m != nil {
		name := dashed(m[1])
		if s := cli.SuggestFlag(commandFlags(c), m[1], false); s != "" {
			return usage("unknown flag %s; did you mean %s?", name, s)
		}
		return usage("unknown flag %s", name)
	}
	if m := noValue.FindStringSubmatch(text); m != nil {
		return usage("flag %s needs a value", dashed(m[1]))
	}
	if m := badValue.FindStringSubmatch(text); m != nil {
		return usage("%s %q: not %s", dashed(m[2]), m[1], kindOf(c, m[2]))
	}
	return usage("%s", text)
}

func commandFlags(c *cli.Context) []cli.Flag {
	if c.Command != nil && len(c.Command.Flags) > 0 {
		return c.Command.Flags
	}
	return c.App.Flags
}

// kindOf says what a flag's value must be.
func kindOf(c *cli.Context, name string) string {
	for _, f := range commandFlags(c) {
		for _, n := range f.Names() {
			if n != name {
				continue
			}
			switch f.(type) {
			case *cli.IntFlag, *cli.Int64Flag:
				return "a whole number"
			case *cli.Uint64Flag:
				return "a whole number from 0 up"
			case *cli.Float64Flag:
				return "a number"
			case *cli.BoolFlag:
				return "true or false"
			}
		}
	}
	return "a value that it takes"
}

func dashed(name string) string {
	if len([]rune(name)) == 1 {
		return "-" + name
	}
	return "--" + name
}

// oneLine joins the lines of a message, which a library may have written.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(s), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
