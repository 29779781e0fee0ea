//go:build cgo

package ort

import (
	"os"
	"testing"
)

// helpers are what the test binary can be started again for, as a second
// process, with ORT_TEST_HELPER holding the name.
var helpers = map[string]func(){"quiet": helperQuiet}

func TestMain(m *testing.M) {
	if name := os.Getenv("ORT_TEST_HELPER"); name != "" {
		helpers[name]()
		return
	}
	os.Exit(m.Run())
}
