//go:build cgo && unix

package ort

// #cgo linux LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"unsafe"
)

// openLibrary loads a shared library, or joins it when it is loaded already.
func openLibrary(path string) (unsafe.Pointer, error) {
	c := C.CString(path)
	defer C.free(unsafe.Pointer(c))
	handle := C.dlopen(c, C.RTLD_LAZY)
	if handle == nil {
		return nil, errors.New(C.GoString(C.dlerror()))
	}
	return handle, nil
}

func closeLibrary(handle unsafe.Pointer) error {
	if C.dlclose(handle) != 0 {
		return errors.New(C.GoString(C.dlerror()))
	}
	return nil
}

// symbol returns the address of a function, nil when there is none.
func symbol(handle unsafe.Pointer, name string) unsafe.Pointer {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.dlsym(handle, c)
}
