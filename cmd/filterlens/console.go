package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/report"
)

// console is what a verb says beside its result: progress, warnings, notes, all
// on standard error.
type console struct {
	c              *cli.Context
	stdout, stderr io.Writer
	quiet, verbose bool
	color          bool
	bar            *bar
	begin          time.Time
	warned, said   []string
}

func newConsole(c *cli.Context) *console {
	k := &console{
		c: c, stdout: c.App.Writer, stderr: c.App.ErrWriter,
		quiet: c.Bool("quiet"), verbose: c.Bool("verbose"),
		color: !c.Bool("no-color") && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		begin: time.Now(),
	}
	width := 0
	if !k.quiet {
		width = terminalWidth(k.stderr)
	}
	k.bar = &bar{w: k.stderr, width: width, note: k.note}
	return k
}

// terminalWidth returns the width of the terminal behind w, 0 when there is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 20 {
		return 80
	}
	return width
}

func (k *console) textOptions() report.TextOptions {
	width := terminalWidth(k.stdout)
	return report.TextOptions{Width: width, Color: k.color && width > 0, ASCII: !utf8Locale()}
}

// utf8Locale tells whether the locale's characters are UTF-8.
func utf8Locale() bool {
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

// warn says what must not be missed, before the report repeats it at its top:
// the report may go to a file, and a wrong assumption is best heard of before
// the work begins. What was said already is not repeated.
func (k *console) warn(format string, a ...any) {
	s := fmt.Sprintf(format, a...)
	if slices.Contains(k.warned, s) {
		return
	}
	k.warned = append(k.warned, s)
	k.bar.clear()
	fmt.Fprintln(k.stderr, "filterlens: warning: "+oneLine(s))
}

// warnSkipped says what of a data set is not used.
func (k *console) warnSkipped(list []dataset.Skipped) {
	if len(list) > 0 {
		k.warn("left out of the data: %d: %s", len(list), dataset.SkippedText(list))
	}
}

// say says, once, what --quiet does not silence and the report tells in its own
// words.
func (k *console) say(format string, a ...any) {
	s := fmt.Sprintf(format, a...)
	if slices.Contains(k.said, s) {
		return
	}
	k.said = append(k.said, s)
	k.bar.clear()
	fmt.Fprintln(k.stderr, "filterlens: "+oneLine(s))
}

// log says what is going on and takes long, such as a download.
func (k *console) log(s string) {
	k.bar.clear()
	if !k.quiet {
		fmt.Fprintln(k.stderr, "filterlens: "+oneLine(s))
	}
}

// note is for --verbose.
func (k *console) note(format string, a ...any) {
	if k.verbose {
		k.bar.clear()
		fmt.Fprintf(k.stderr, "filterlens: "+format+"\n", a...)
	}
}

// finish ends the progress bar.
func (k *console) finish() {
	k.bar.end()
	k.note("%s in all", report.Seconds(time.Since(k.begin)))
}

// bar is a line on a terminal that says how far a stage is. It is safe for use
// by the goroutine that works and the one that speaks.
type bar struct {
	w     io.Writer
	width int // 0: no terminal, nothing is drawn
	note  func(format string, a ...any)

	mu          sync.Mutex
	stage       string
	begin, last time.Time
	drawn       bool
}

const barWidth = 16

// progress has the signature of probe.Options.Progress.
func (b *bar) progress(stage string, done, total int) {
	now := time.Now()
	if stage != b.stage {
		b.end()
		b.stage, b.begin = stage, now
	}
	if b.width == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn && done < total && now.Sub(b.last) < 100*time.Millisecond {
		return
	}
	b.last, b.drawn = now, true
	line := barLine(stage, done, total, now.Sub(b.begin))
	if r := []rune(line); len(r) >= b.width {
		line = string(r[:b.width-1])
	}
	fmt.Fprint(b.w, "\r\x1b[K"+line)
}

// barLine writes "training heads  [#####...]  1,200/6,000  530/s  9 s left".
func barLine(stage string, done, total int, spent time.Duration) string {
	full := 0
	if total > 0 {
		full = min(barWidth, done*barWidth/total)
	}
	mark := make([]byte, barWidth)
	for i := range mark {
		mark[i] = '.'
		if i < full {
			mark[i] = '#'
		}
	}
	line := fmt.Sprintf("%-22s [%s] %s/%s", stage, mark, report.Count(int64(done)).Text, report.Count(int64(total)).Text)
	if s := spent.Seconds(); done > 0 && s > 1 {
		rate := float64(done) / s
		if rate >= 10 {
			line += fmt.Sprintf("  %.0f/s", rate)
		}
		if done < total {
			line += "  " + report.Seconds(time.Duration(float64(total-done)/rate*float64(time.Second))) + " left"
		}
	}
	return line
}

// clear takes the line away, until the next progress.
func (b *bar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = false
	}
}

// end closes a stage.
func (b *bar) end() {
	b.clear()
	if b.stage != "" {
		b.note("%s: %s", b.stage, report.Seconds(time.Since(b.begin)))
		b.stage = ""
	}
}
