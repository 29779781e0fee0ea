package probe

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
)

// killed names the folder from which a process that TestKilledProcess has started
// takes its model and data, and where it leaves state and result.
const killed = "FILTERLENS_TEST_KILLED"

// measureToKill is the measurement of such a process.
func measureToKill(t *testing.T, dir string, withState bool) string {
	f, err := onnxfile.Open(filepath.Join(dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := inspect.New(t.Context(), f, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := trial{eng: runtime(t), m: m, data: filepath.Join(dir, "data"), opt: testOptions()}
	r.opt.Recipe.Epochs = 40
	r.opt.Checkpoint = 5 * time.Millisecond
	r.opt.Memory = 20 << 10 // some heads in memory, some streamed
	r.opt.Stability, r.opt.Single, r.opt.Top = 3, true, 2
	folder := ""
	if withState {
		folder = filepath.Join(dir, "state")
	}
	res, err := r.run(context.Background(), t, folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.logs) > 0 {
		t.Errorf("logged %q", r.logs)
	}
	return text(t, res)
}

// TestKilledProcess kills a measuring process again and again, at random moments,
// until one gets to the end.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv(killed); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "result.json"), []byte(measureToKill(t, dir, true)), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	if err := os.Rename(imageFolder(t, testK, 20), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(small(t, testK).File, filepath.Join(dir, "model.onnx")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	want := measureToKill(t, dir, false)
	longest := time.Since(begin) / 4

	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	stages := map[string]int{}
	kills := 0
	for done := false; !done; {
		if kills == 200 {
			t.Fatal("it does not get anywhere")
		}
		lock := filepath.Join(dir, "state", "filterlens.lock")
		os.Remove(lock)
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), killed+"="+dir)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// The time until it has the lock is no time of measuring.
		for range 2000 {
			if _, err := os.Stat(lock); err == nil || len(ended) > 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			done = true
		case <-time.After(time.Duration(random.Int64N(int64(longest)))):
			kills++
			longest += longest / 20 // a machine that has become slower gets there as well
			cmd.Process.Kill()      // SIGKILL
			<-ended
			files, err := filepath.Glob(filepath.Join(dir, "state", "*-*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				kind, _, _ := strings.Cut(filepath.Base(f), "-")
				stages[kind]++
			}
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(got) {
		t.Fatalf("result %q", got)
	}
	same(t, "in the end", string(got), want)
	t.Logf("killed %d times; parts there after kills: %v", kills, stages)
	if kills == 0 {
		t.Skip("it was done before it could be killed")
	}
}
