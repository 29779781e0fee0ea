package ort

import (
	"os"
	"testing"
)

// TestMain lets the test binary stand in for a second process: a test starts it
// again with ORT_TEST_HELPER naming what to do.
func TestMain(m *testing.M) {
	switch name := os.Getenv("ORT_TEST_HELPER"); name {
	case "":
		os.Exit(m.Run())
	case "install":
		helperInstall()
	case "quiet":
		helperQuiet()
	default:
		panic("unknown helper " + name)
	}
}
