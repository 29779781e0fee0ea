//go:build cgo

package ort

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/rogpeppe/go-internal/lockedfile"
)

// A fetcher keeps the pinned library of one platform in a cache directory.
type fetcher struct {
	// dir is <cache>/onnxruntime. It holds the lock, temporary folders while
	// something is fetched, and <version>/<os-arch>/<library>.
	dir      string
	platform string
	product
	offline bool
	log     func(format string, args ...any)
}

func newFetcher(opts Options) (*fetcher, error) {
	cache := opts.CacheDir
	if cache == "" {
		cache = os.Getenv("FILTERLENS_CACHE")
	}
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, &engine.UnavailableError{What: "there is no cache directory for onnxruntime", Err: err, Hint: "set FILTERLENS_CACHE to a folder"}
		}
		cache = filepath.Join(user, "filterlens")
	}
	// The clients run in a folder of their own.
	cache, err := filepath.Abs(cache)
	if err != nil {
		return nil, err
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	return &fetcher{
		dir:      filepath.Join(cache, "onnxruntime"),
		platform: platform,
		product:  product{pins: pins(platform)},
		offline:  opts.Offline,
		log:      opts.log,
	}, nil
}

// choose has the fetcher keep another product than the plain library.
func (f *fetcher) choose(p product) { f.product = p }

// path is where the library lies once it has been fetched.
func (f *fetcher) path() string {
	folder := strings.ReplaceAll(f.platform, "/", "-") + f.suffix
	return filepath.Join(f.dir, cmp.Or(f.version, Version), folder, cmp.Or(f.library, libraryName(f.platform)))
}

// missing says that the product is not there.
func (f *fetcher) missing() string {
	if f.name != "" {
		return f.name + " is not in the cache"
	}
	return "no onnxruntime library found"
}

func libraryName(platform string) string {
	switch goos, _, _ := strings.Cut(platform, "/"); goos {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// cached says whether the library has been fetched. Its sum was checked before
// it got its name; its size is looked at again because that costs nothing.
func (f *fetcher) cached() bool {
	info, err := os.Stat(f.path())
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	for _, p := range f.pins {
		if info.Size() == p.member.size && f.whole(p) {
			return true
		}
	}
	return false
}

// whole says whether the libraries that go with a pin's own are there too.
func (f *fetcher) whole(p pin) bool {
	for _, c := range p.companions {
		info, err := os.Stat(filepath.Join(filepath.Dir(f.path()), path.Base(c.name)))
		if err != nil || info.Size() != c.size {
			return false
		}
	}
	return true
}

// install returns the path of the cached library and fetches it when it is not
// there. However many processes ask at once, one of them fetches.
func (f *fetcher) install(ctx context.Context) (string, error) {
	if f.cached() {
		return f.path(), nil
	}
	if len(f.pins) == 0 {
		return "", &engine.UnavailableError{What: "no onnxruntime library found, and none is known to fetch for " + f.platform, Hint: hintName}
	}
	if f.offline {
		return "", &engine.UnavailableError{What: f.missing() + ", and fetching it is off", Hint: hintGet}
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return "", &engine.UnavailableError{What: "the cache for onnxruntime cannot be made", Err: err, Hint: "set FILTERLENS_CACHE to a folder"}
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if f.cached() {
		return f.path(), nil
	}
	if err := f.sweep(); err != nil {
		return "", err
	}
	return f.path(), f.fetch(ctx)
}

// lock waits for the cache's lock. A caller who gives up leaves a goroutine
// behind that lets go of the lock as soon as it gets it.
func (f *fetcher) lock(ctx context.Context) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(filepath.Join(f.dir, "lock")).Lock()
		got <- result{unlock, err}
	}()
	notice := time.NewTimer(time.Second)
	defer notice.Stop()
	for {
		select {
		case r := <-got:
			if r.err != nil {
				return nil, fmt.Errorf("cannot lock the cache for onnxruntime: %w", r.err)
			}
			return r.unlock, nil
		case <-notice.C:
			f.log("waiting for another process that fetches onnxruntime")
		case <-ctx.Done():
			go func() {
				if r := <-got; r.err == nil {
					r.unlock()
				}
			}()
			return nil, ctx.Err()
		}
	}
}

const tempPrefix = "tmp-"

// sweep removes what a killed process left behind. The caller holds the lock,
// so nobody is at work there.
func (f *fetcher) sweep() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(f.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch tries the pins in turn, each with its client.
func (f *fetcher) fetch(ctx context.Context) error {
	var errs []error
	for _, p := range f.pins {
		command, err := findClient(ctx, p.client, f.dir)
		if err == nil {
			f.log("fetching %s for %s with %s, %d MB, into %s", cmp.Or(f.name, "onnxruntime "+Version), f.platform, p.client, (p.archive.size+500_000)/1_000_000, f.dir)
			if err = f.fetchPin(ctx, p, command); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var missing *noClientError
		if !errors.As(err, &missing) {
			f.log("%s: %s", p.client, oneLine(err))
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.client, err))
	}
	return &engine.UnavailableError{What: cmp.Or(f.name, "onnxruntime") + " could not be fetched", Err: oneLine(errors.Join(errs...)), Hint: hintClient}
}

func (f *fetcher) fetchPin(ctx context.Context, p pin, command []string) (err error) {
	temp, err := os.MkdirTemp(f.dir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	archive, err := download(ctx, p, command, temp)
	if err != nil {
		return err
	}
	if err := verify(ctx, archive, p.archive); err != nil {
		return fmt.Errorf("%s was not used: %w", filepath.Base(archive), err)
	}
	library := filepath.Join(temp, "library")
	if err := extract(ctx, archive, p.member, library); err != nil {
		return fmt.Errorf("%s was not used: %w", filepath.Base(archive), err)
	}
	target := f.path()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// The library itself comes last: where it is, the others are.
	for _, c := range p.companions {
		name := path.Base(c.name)
		if err := extract(ctx, archive, c, filepath.Join(temp, name)); err != nil {
			return fmt.Errorf("%s was not used: %w", filepath.Base(archive), err)
		}
		if err := os.Rename(filepath.Join(temp, name), filepath.Join(filepath.Dir(target), name)); err != nil {
			return err
		}
	}
	if err := os.Rename(library, target); err != nil {
		return err
	}
	return syncDir(filepath.Dir(target))
}

// syncDir makes a rename durable. Windows cannot open folders for that and
// needs no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// noClientError says that no working package client of a kind is installed.
type noClientError struct{ tried []string }

func (e *noClientError) Error() string {
	return "not installed or not working (tried " + strings.Join(e.tried, ", ") + ")"
}

// findClient returns the command line of the first spelling of a package client
// that answers to --version; a shim on the path may well stand for nothing. It
// runs in dir, for "python -m" would import a module pip from where the user is.
func findClient(ctx context.Context, client, dir string) ([]string, error) {
	spellings := [][]string{{"npm"}}
	if client == "pip" {
		spellings = [][]string{{"pip"}, {"pip3"}, {"python3", "-m", "pip"}, {"python", "-m", "pip"}}
	}
	e := &noClientError{}
	for _, command := range spellings {
		if _, err := runClient(ctx, dir, command, "--version"); err == nil {
			return command, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e.tried = append(e.tried, strings.Join(command, " "))
	}
	return nil, e
}

// download has a package client put the package into dir and returns its path.
// Neither client runs code of the package; which registry they ask is their
// configuration's business.
func download(ctx context.Context, p pin, command []string, dir string) (string, error) {
	var args []string
	pattern := "*.tgz"
	switch p.client {
	case "pip":
		pattern = "*.whl"
		args = []string{"download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet",
			"--platform", p.tag, "--python-version", "311", "--implementation", "cp", "--abi", "cp311", "--dest", dir, p.spec}
	case "npm":
		args = []string{"pack", p.spec, "--ignore-scripts", "--silent"}
	}
	if _, err := runClient(ctx, dir, command, args...); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("it ended well but left %d packages, not 1", len(found))
	}
	return found[0], nil
}

// runClient runs a package client in dir and returns its standard output. A
// cancelled context kills it with all its children.
func runClient(ctx context.Context, dir string, command []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], args...)...)
	cmd.Dir = dir
	cmd.Cancel = ownGroup(cmd)
	// Pipes that a stray grandchild keeps open must not hold us.
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr tail
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(stdout.String())
		}
		if said != "" {
			return "", fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return stdout.String(), nil
}

// tail keeps the end of what is written to it.
type tail struct{ buf bytes.Buffer }

const tailSize = 2000

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > tailSize {
		p = p[len(p)-tailSize:]
	}
	t.buf.Next(max(0, t.buf.Len()+len(p)-tailSize))
	t.buf.Write(p)
	return n, nil
}

func (t *tail) String() string { return t.buf.String() }
