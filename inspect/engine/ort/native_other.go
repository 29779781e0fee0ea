//go:build cgo && !unix

package ort

import (
	"syscall"
	"unsafe"
)

// openLibrary loads a shared library, or joins it when it is loaded already.
func openLibrary(path string) (unsafe.Pointer, error) {
	dll, err := syscall.LoadDLL(path)
	return unsafe.Pointer(dll), err
}

func closeLibrary(handle unsafe.Pointer) error { return (*syscall.DLL)(handle).Release() }

// symbol returns the address of a function, nil when there is none.
func symbol(handle unsafe.Pointer, name string) unsafe.Pointer {
	p, err := (*syscall.DLL)(handle).FindProc(name)
	if err != nil {
		return nil
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&[]uintptr{p.Addr()}[0]))
}
