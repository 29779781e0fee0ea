//go:build cgo && unix

package ort

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect/engine"
)

const fakeLibrary = "not a library, but nobody loads it here"

func blobOf(name string, b []byte) blob {
	sum := sha256.Sum256(b)
	return blob{name, int64(len(b)), hex.EncodeToString(sum[:])}
}

type file struct{ name, data string }

func makeZip(t *testing.T, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range files {
		w, err := z.Create(f.name)
		if err == nil {
			_, err = w.Write([]byte(f.data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeTar(t *testing.T, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	g := gzip.NewWriter(&buf)
	w := tar.NewWriter(g)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Size: int64(len(f.data)), Mode: 0o644})
		if err == nil {
			_, err = w.Write([]byte(f.data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A stage is a machine with fake package clients on its path and a cache.
type stage struct {
	t     *testing.T
	bin   string
	calls string
	f     *fetcher
	notes []string
}

// newStage makes an empty one. Its fetcher knows a wheel and an npm package
// that hold fakeLibrary.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, bin: t.TempDir()}
	s.calls = filepath.Join(t.TempDir(), "calls")
	for _, tool := range []string{"cat", "sleep"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(s.bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", s.bin)
	t.Setenv("FAKE_CALLS", s.calls)
	wheel := makeZip(t, file{"onnxruntime/LICENSE", "MIT"}, file{"../../evil", "x"}, file{"onnxruntime/capi/lib", fakeLibrary})
	tgz := makeTar(t, file{"package/README", "hello"}, file{"../../evil", "x"}, file{"package/bin/lib", fakeLibrary})
	s.archive("wheel", wheel)
	s.archive("tgz", tgz)
	s.f = &fetcher{
		dir:      filepath.Join(t.TempDir(), "cache", "onnxruntime"),
		platform: "plan9/mips",
		product: product{pins: []pin{
			{client: "pip", spec: "onnxruntime==0", tag: "any", archive: blobOf("", wheel), member: blobOf("onnxruntime/capi/lib", []byte(fakeLibrary))},
			{client: "npm", spec: "onnxruntime-node@0", archive: blobOf("", tgz), member: blobOf("package/bin/lib", []byte(fakeLibrary))},
		}},
		log: func(format string, args ...any) { s.notes = append(s.notes, fmt.Sprintf(format, args...)) },
	}
	return s
}

// archive stores what the fake clients hand out.
func (s *stage) archive(name string, b []byte) {
	s.t.Helper()
	path := filepath.Join(s.bin, name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		s.t.Fatal(err)
	}
	s.t.Setenv("FAKE_"+strings.ToUpper(name), path)
}

// client installs a fake client; script finds the folder to fill in $dest.
func (s *stage) client(name, script string) {
	s.t.Helper()
	const head = `#!/bin/sh
[ "$1" = --version ] && { echo 1.0; exit 0; }
echo "$0 $*" >>"$FAKE_CALLS"
dest=.
while [ $# -gt 0 ]; do
	[ "$1" = --dest ] && dest=$2
	shift
done
`
	if err := os.WriteFile(filepath.Join(s.bin, name), []byte(head+script+"\n"), 0o777); err != nil {
		s.t.Fatal(err)
	}
}

const (
	goodPip = `cat "$FAKE_WHEEL" >"$dest/onnxruntime-0-any.whl"`
	goodNpm = `cat "$FAKE_TGZ" >"$dest/onnxruntime-node-0.tgz"`
)

// downloads returns the command lines of the clients so far.
func (s *stage) downloads() []string {
	s.t.Helper()
	b, err := os.ReadFile(s.calls)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// check sees that the cache holds the library, or nothing, and no leftovers.
func (s *stage) check(installed bool) {
	s.t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Dir(s.f.dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			files = append(files, path)
		}
		if err == nil && strings.HasPrefix(d.Name(), tempPrefix) {
			s.t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	if !installed {
		if len(files) > 0 {
			s.t.Errorf("left behind: %q", files)
		}
		return
	}
	if len(files) != 1 || files[0] != s.f.path() {
		s.t.Errorf("cache holds %q, want only %s", files, s.f.path())
	}
	if b, err := os.ReadFile(s.f.path()); err != nil || string(b) != fakeLibrary {
		s.t.Errorf("library %q, %v", b, err)
	}
}

func TestInstall(t *testing.T) {
	for _, tt := range []struct {
		name      string
		clients   map[string]string
		downloads []string
	}{
		{"pip", map[string]string{"pip": goodPip, "npm": goodNpm}, []string{"pip download"}},
		{"pip3", map[string]string{"pip3": goodPip}, []string{"pip3 download"}},
		{"python3", map[string]string{"python3": goodPip}, []string{"python3 -m pip download"}},
		{"npm", map[string]string{"npm": goodNpm}, []string{"npm pack onnxruntime-node@0 --ignore-scripts"}},
		{"pip fails", map[string]string{"pip": "echo no network >&2; exit 1", "npm": goodNpm}, []string{"pip download", "npm pack"}},
		{"pip gives the wrong bytes", map[string]string{"pip": `echo hello >"$dest/a.whl"`, "npm": goodNpm}, []string{"pip download", "npm pack"}},
		{"pip gives half", map[string]string{"pip": goodPip + "\n" + `cat "$FAKE_TGZ" >"$dest/onnxruntime-0-any.whl"`, "npm": goodNpm}, []string{"pip download", "npm pack"}},
		{"pip gives nothing", map[string]string{"pip": "exit 0", "npm": goodNpm}, []string{"pip download", "npm pack"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			for name, script := range tt.clients {
				s.client(name, script)
			}
			if name := "python3"; tt.clients[name] != "" {
				// It is asked "-m pip --version".
				s.client(name, tt.clients[name])
				path := filepath.Join(s.bin, name)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b = bytes.Replace(b, []byte(`"$1" = --version`), []byte(`"$3" = --version`), 1)
				if err := os.WriteFile(path, b, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second time finds the first one's work
				path, err := s.f.install(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if path != s.f.path() {
					t.Errorf("path %s, want %s", path, s.f.path())
				}
				s.check(true)
			}
			got := s.downloads()
			if len(got) != len(tt.downloads) {
				t.Fatalf("commands %q, want %q", got, tt.downloads)
			}
			for i, want := range tt.downloads {
				if !strings.Contains(got[i], want) {
					t.Errorf("command %q, want %q", got[i], want)
				}
			}
			if len(s.notes) == 0 || !strings.Contains(s.notes[0], "fetching onnxruntime") {
				t.Errorf("notes %q", s.notes)
			}
		})
	}
}

func TestInstallErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(s *stage)
		want  string
	}{
		{"offline", func(s *stage) { s.client("pip", goodPip); s.f.offline = true }, "fetching it is off; run 'filterlens runtime install'"},
		{"no client", func(s *stage) {}, "install pip or npm"},
		{"client that is only a shim", func(s *stage) {
			path := filepath.Join(s.bin, "pip")
			if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 127\n"), 0o777); err != nil {
				s.t.Fatal(err)
			}
		}, "not installed or not working (tried pip, pip3, python3 -m pip"},
		{"platform", func(s *stage) { s.client("pip", goodPip); s.f.pins = nil }, "none is known to fetch for plan9/mips"},
		{"client fails", func(s *stage) { s.client("pip", "echo 'ERROR: no such version' >&2; exit 1") }, "exit status 1: ERROR: no such version"},
		{"checksum", func(s *stage) {
			s.client("pip", goodPip)
			b, err := os.ReadFile(os.Getenv("FAKE_WHEEL"))
			if err != nil {
				s.t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			s.archive("wheel", b)
		}, "onnxruntime-0-any.whl was not used: its SHA-256 is"},
		{"half an archive", func(s *stage) {
			s.client("pip", goodPip)
			b, err := os.ReadFile(os.Getenv("FAKE_WHEEL"))
			if err != nil {
				s.t.Fatal(err)
			}
			s.archive("wheel", b[:len(b)/2])
		}, "bytes, "},
		{"too long", func(s *stage) {
			s.client("pip", goodPip+"\n"+goodPip+`; cat "$FAKE_TGZ" >>"$dest/onnxruntime-0-any.whl"`)
		}, "it is longer than the"},
		{"two packages", func(s *stage) { s.client("pip", goodPip+`; echo >"$dest/b.whl"`) }, "left 2 packages"},
		{"member missing", func(s *stage) { s.client("pip", goodPip); s.f.pins[0].member.name = "onnxruntime/capi/other" }, "no member onnxruntime/capi/other"},
		{"member of another size", func(s *stage) { s.client("pip", goodPip); s.f.pins[0].member.size-- }, "member onnxruntime/capi/lib: it is longer"},
		{"member with another sum", func(s *stage) {
			s.client("npm", goodNpm)
			s.f.pins[1].member.sum = strings.Repeat("0", 64)
		}, "member package/bin/lib: its SHA-256"},
		{"no archive at all", func(s *stage) {
			s.client("npm", goodNpm)
			s.archive("tgz", []byte("hello"))
			s.f.pins[1].archive = blobOf("", []byte("hello"))
		}, "was not used"},
		{"cache is a file", func(s *stage) {
			s.client("pip", goodPip)
			dir := filepath.Join(s.t.TempDir(), "file")
			if err := os.WriteFile(dir, nil, 0o666); err != nil {
				s.t.Fatal(err)
			}
			s.f.dir = filepath.Join(dir, "onnxruntime")
		}, "the cache for onnxruntime cannot be made"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			tt.setup(s)
			_, err := s.f.install(context.Background())
			var u *engine.UnavailableError
			if !errors.As(err, &u) || u.Hint == "" {
				t.Fatalf("%v (%T), want an *engine.UnavailableError with a hint", err, err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q, want %q", err, tt.want)
			}
			if filepath.Base(filepath.Dir(s.f.dir)) != "file" {
				s.check(false)
			}
		})
	}
}

func TestInstallReplacesTruncatedLibrary(t *testing.T) {
	s := newStage(t)
	s.client("pip", goodPip)
	if err := os.MkdirAll(filepath.Dir(s.f.path()), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.f.path(), []byte(fakeLibrary[:5]), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := s.f.install(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.check(true)
}

// waitFor waits until a file holds something.
func waitFor(t *testing.T, path string) string {
	t.Helper()
	for range 500 {
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 && b[len(b)-1] == '\n' {
			return strings.TrimSpace(string(b))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s was never written", path)
	return ""
}

// dead sees that a process is gone, or a zombie that its new parent has yet to
// collect.
func dead(t *testing.T, pid string) {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := syscall.Kill(n, 0); err != nil {
			return
		}
		if b, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %s still runs", pid)
}

// slowPip writes half of a wheel, starts a child and never ends by itself.
const slowPip = `echo half >"$dest/onnxruntime-0-any.whl"
sleep 60 &
echo $! >"$FAKE_CALLS.child"
echo $$ >"$FAKE_CALLS.pid"
sleep 60`

func TestInstallCancel(t *testing.T) {
	s := newStage(t)
	s.client("pip", slowPip)
	s.client("npm", goodNpm)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := s.f.install(ctx)
		done <- err
	}()
	pid := waitFor(t, s.calls+".pid")
	child := waitFor(t, s.calls+".child")
	cancel()
	select {
	case err := <-done:
		if err != context.Canceled {
			t.Errorf("%v, want %v", err, context.Canceled)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a cancelled fetch goes on")
	}
	dead(t, pid)
	dead(t, child)
	s.check(false)
	if n := len(s.downloads()); n != 1 {
		t.Errorf("%d downloads, want 1: a cancelled one is not tried otherwise", n)
	}
}

func TestInstallCancelWhileWaiting(t *testing.T) {
	s := newStage(t)
	s.client("pip", goodPip)
	if err := os.MkdirAll(s.f.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.f.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.f.install(ctx); err != context.DeadlineExceeded {
		t.Errorf("%v, want %v", err, context.DeadlineExceeded)
	}
	unlock()
	// The waiter that gave up must not keep the lock.
	if _, err := s.f.install(context.Background()); err != nil {
		t.Error(err)
	}
	s.check(true)
}

// helper starts the test binary again to install into the stage's cache.
func (s *stage) helper() *exec.Cmd {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	p := s.f.pins[0]
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "ORT_TEST_HELPER=install", "ORT_TEST_DIR="+s.f.dir,
		fmt.Sprintf("ORT_TEST_PIN=%d %s %s %d %s", p.archive.size, p.archive.sum, p.member.name, p.member.size, p.member.sum))
	cmd.Stderr = os.Stderr
	return cmd
}

func init() { helpers["install"] = helperInstall }

func helperInstall() {
	p := pin{client: "pip", spec: "onnxruntime==0", tag: "any"}
	if _, err := fmt.Sscan(os.Getenv("ORT_TEST_PIN"), &p.archive.size, &p.archive.sum, &p.member.name, &p.member.size, &p.member.sum); err != nil {
		panic(err)
	}
	f := &fetcher{dir: os.Getenv("ORT_TEST_DIR"), platform: "plan9/mips", product: product{pins: []pin{p}}, log: func(string, ...any) {}}
	if _, err := f.install(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestInstallOnceForManyProcesses(t *testing.T) {
	s := newStage(t)
	s.client("pip", "sleep 0.3\n"+goodPip)
	var cmds []*exec.Cmd
	for range 3 {
		cmd := s.helper()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	s.check(true)
	if got := s.downloads(); len(got) != 1 {
		t.Errorf("%d downloads, want 1: %q", len(got), got)
	}
}

func TestInstallAfterKill(t *testing.T) {
	s := newStage(t)
	s.client("pip", slowPip)
	cmd := s.helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(waitFor(t, s.calls+".pid"), &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	defer syscall.Kill(-pid, syscall.SIGKILL)
	if left, _ := filepath.Glob(filepath.Join(s.f.dir, tempPrefix+"*", "*.whl")); len(left) != 1 {
		t.Fatalf("the killed process left %q; the test needs half a wheel", left)
	}
	s.client("pip", goodPip)
	if _, err := s.f.install(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.check(true)
}
