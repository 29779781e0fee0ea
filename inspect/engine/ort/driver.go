//go:build cgo

package ort

// #include <stdint.h>
// static int fl_driver_version(void *f, int *version) { return ((int(*)(int *))f)(version); }
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// driver asks a machine for its NVIDIA driver.
type driver struct {
	// libraries are the names under which the loader is asked for the driver,
	// command what is asked when none of them loads.
	libraries []string
	command   string
}

func systemDriver(goos string) driver {
	if goos == "windows" {
		return driver{[]string{"nvcuda.dll"}, "nvidia-smi"}
	}
	return driver{[]string{"libcuda.so.1", "libcuda.so"}, "nvidia-smi"}
}

// cudaVersion returns the newest CUDA release that the driver runs, as major
// and minor. It needs no GPU to be free.
func (d driver) cudaVersion(ctx context.Context) (major, minor int, err error) {
	var said []string
	for _, name := range d.libraries {
		version, err := driverLibrary(name)
		if err == nil {
			return version / 1000, version % 1000 / 10, nil
		}
		said = append(said, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	table, err := exec.CommandContext(ctx, d.command).Output()
	if err != nil {
		return 0, 0, errors.New(strings.Join(append(said, err.Error()), ", "))
	}
	// Newer drivers write "CUDA UMD Version".
	m := regexp.MustCompile(`CUDA (?:UMD )?Version *: *(\d+)\.(\d+)`).FindStringSubmatch(string(table))
	if m == nil {
		return 0, 0, fmt.Errorf("%s names no CUDA version", d.command)
	}
	major, err = strconv.Atoi(m[1])
	if err == nil {
		minor, err = strconv.Atoi(m[2])
	}
	return major, minor, err
}

// driverLibrary asks one library; 12040 stands for 12.4.
func driverLibrary(name string) (version int, err error) {
	handle, err := openLibrary(name)
	if err != nil {
		return 0, err
	}
	defer closeLibrary(handle)
	f := symbol(handle, "cuDriverGetVersion")
	if f == nil {
		return 0, errors.New(name + " does not export cuDriverGetVersion")
	}
	var v C.int
	if code := C.fl_driver_version(f, &v); code != 0 {
		return 0, fmt.Errorf("%s: cuDriverGetVersion failed with code %d", name, code)
	}
	if v <= 0 {
		return 0, fmt.Errorf("%s reports CUDA version %d: no driver is loaded", name, v)
	}
	return int(v), nil
}
