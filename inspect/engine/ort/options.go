// Package ort runs graphs on ONNX Runtime, through its shared library.
//
// It finds the library, or fetches a pinned and checked copy once through the
// package client at hand, and implements engine.Engine and engine.Session with
// it. It knows nothing of what a graph computes; knowledge of layers, labels or
// filters may not enter.
//
// Calling a shared library takes cgo. A binary built without it has Available false
// and an Open that says so; the rest of the package is then left out.
package ort

// Execution providers that an Engine runs on.
const (
	CPU  = "cpu"
	CUDA = "cuda"
)

// Options say which library to use and how to run on it. The zero value runs
// on the CPU, with the library that Locate finds.
type Options struct {
	// Library is the path of the onnxruntime library; "" leaves it to Locate.
	Library string
	// Provider is CPU or CUDA, "" means CPU.
	Provider string
	// DeviceID is the number of the GPU.
	DeviceID int
	// TF32 lets CUDA round the factors of convolutions and matrix products to
	// 10 bits of mantissa, which is faster and changes results.
	TF32 bool
	// CUDALibrary is the path of a CUDA provider, as a plugin library; ""
	// looks in FILTERLENS_CUDA_LIBRARY, beside Library and in the cache.
	CUDALibrary string
	// shape restricts which shape of the CUDA provider is looked for; "" means
	// either.
	shape string
	// Threads bounds the threads of one operator; 0 leaves it to the library,
	// which takes one per physical core.
	Threads int
	// DisableOptimizations runs the graph as it stands in the file, without
	// fusing or folding nodes.
	DisableOptimizations bool
	// Offline forbids fetching the library.
	Offline bool
	// CacheDir is where fetched libraries are kept; "" means FILTERLENS_CACHE,
	// else the user's cache directory with "filterlens" appended.
	CacheDir string
	// Log receives lines for standard error: what is fetched and from where.
	// nil drops them.
	Log func(string)
}

// Shapes of a provider that comes as a library of its own.
const (
	// ShapeBuiltIn is the provider library that belongs to one GPU build of
	// ONNX Runtime and lies beside it.
	ShapeBuiltIn = "provider library"
	// ShapePlugin is a library that any ONNX Runtime can register.
	ShapePlugin = "plugin library"
)

// Library is an onnxruntime library on disk.
type Library struct {
	Path string
	// Source says how it was found: "option", the name of an environment
	// variable, "cache", "system" or "fetched".
	Source string
}

// Info describes the runtime that Open would use.
type Info struct {
	// Library and Version are those that run on the CPU.
	Library Library
	// Version is what the library calls itself.
	Version string
	// Providers lists CPU, and CUDA in each of its shapes.
	Providers []ProviderInfo
}

// ProviderInfo says whether an execution provider works here.
type ProviderInfo struct {
	Name string
	// Shape is ShapeBuiltIn or ShapePlugin for CUDA, "" for the CPU.
	Shape string
	// Library is the onnxruntime library that it was tried with, Provider the
	// provider's own, "" where there is none.
	Library, Provider string
	Usable            bool
	// Reason says in one line why it is not usable, "" when it is.
	Reason string
}
