//go:build cgo

package ort

import (
	"fmt"
	"strings"
)

// Version is the release of ONNX Runtime that is fetched; older ones down to
// 1.24 work when they are there already.
const Version = "1.30.0"

// A pin names one package that carries the library, and what its bytes must be.
type pin struct {
	// client is the package client that fetches it: "pip" or "npm".
	client string
	// spec is what the client is asked for, tag the wheel's platform.
	spec, tag string
	// archive is the package, member the library inside it.
	archive, member blob
	// companions are libraries that have to lie beside member, under the last
	// part of their names.
	companions []blob
}

// A product is something that a fetcher keeps; the zero values of its names
// stand for the plain library.
type product struct {
	// name is what messages call it, version and suffix name its folder, library
	// its file.
	name, version, suffix, library string
	pins                           []pin
}

// A blob is known by its size in bytes and its SHA-256.
type blob struct {
	name string
	size int64
	sum  string
}

// pins returns the packages for a platform ("linux/amd64") in the order of
// preference, none for a platform without one. pip comes first because a wheel
// holds one platform and is a fifth of the size.
//
// To move to another release, fetch its wheels and its npm package with the
// arguments that download passes, and note sizes and sums of both layers.
func pins(platform string) []pin {
	wheel := func(tag string, size int64, sum string, member blob) pin {
		return pin{client: "pip", spec: "onnxruntime==" + Version, tag: tag, archive: blob{size: size, sum: sum}, member: member}
	}
	node := func(member blob) pin {
		return pin{client: "npm", spec: "onnxruntime-node@" + Version, member: member, archive: blob{
			size: 113507888, sum: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"}}
	}
	switch platform {
	case "linux/amd64":
		return []pin{
			wheel("manylinux_2_28_x86_64", 23561046, "fd54b314ea385bcecac69ab431f020ba503e3878dad4ebb645fec5a24b041242", blob{
				"onnxruntime/capi/libonnxruntime.so." + Version, 28985152, "c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed"}),
			node(blob{"package/bin/napi-v6/linux/x64/libonnxruntime.so.1", 45828512, "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23"}),
		}
	case "linux/arm64":
		return []pin{
			wheel("manylinux_2_28_aarch64", 21332697, "bac3aee7b40acd805659fd81a2acd6096312d5b0f014c97ddfe75fb4c1644627", blob{
				"onnxruntime/capi/libonnxruntime.so." + Version, 25135496, "8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789"}),
			node(blob{"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", 25135496, "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"}),
		}
	case "darwin/arm64":
		return []pin{
			wheel("macosx_14_0_arm64", 21533037, "f36c87ec504f4f328e968ee322e4ba9682abe66280b3425625afcbed5333fed7", blob{
				"onnxruntime/capi/libonnxruntime." + Version + ".dylib", 33209560, "8f54aa3989f2d4b2f9fbe8af298b1c147978ec899a8c28e20d0d35edc0005027"}),
			node(blob{"package/bin/napi-v6/darwin/arm64/libonnxruntime." + Version + ".dylib", 44589928, "685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"}),
		}
	case "windows/amd64":
		return []pin{
			wheel("win_amd64", 14309136, "0edd0145a6e3fce8a1276491dc784d615e3c58bcb952c9b4e5c876d5c6a12ad7", blob{
				"onnxruntime/capi/onnxruntime.dll", 18446136, "44741724166ad61c8c82885e394793807f2cf5707c83b9e33c2d78d75c6e7650"}),
			node(blob{"package/bin/napi-v6/win32/x64/onnxruntime.dll", 28754232, "508c362f5673483dd3a086379c392795b2e42d10d5e6f3f90ebd7ac21c97af67"}),
		}
	}
	return nil
}

// cudaBuild returns the GPU build of ONNX Runtime for a major release of CUDA.
// From 1.27 on the packages are for CUDA 13, so that CUDA 12 stays at 1.26.
// They exist for two platforms; the one that was tried is pinned.
func cudaBuild(platform string, major int) product {
	const capi = "onnxruntime/capi/"
	shared := blob{capi + "libonnxruntime_providers_shared.so", 14632, "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"}
	build := func(version string, archive, member, cuda blob) product {
		p := pin{client: "pip", spec: "onnxruntime-gpu==" + version, tag: "manylinux_2_28_x86_64", archive: archive, member: member}
		p.member.name = capi + "libonnxruntime.so." + version
		cuda.name = capi + "libonnxruntime_providers_cuda.so"
		p.companions = []blob{shared, cuda}
		return product{
			name:    fmt.Sprintf("the GPU build of onnxruntime %s for CUDA %d", version, major),
			version: version, suffix: fmt.Sprintf("-cuda%d", major), pins: []pin{p},
		}
	}
	if platform == "linux/amd64" {
		switch major {
		case 13:
			return build("1.30.0",
				blob{size: 246658419, sum: "4fbf0c5d7b5fb99266c2e8a802e3e64af68bdc383e0f3c7349b985f1087eedaa"},
				blob{size: 29062976, sum: "5a140dc17c8b60b35b2ceab0bb533e65ac54f06a208948417c1f9c31df6afc4c"},
				blob{size: 272049904, sum: "9d7587acb137b31bf84e4d32dc444b969bb601d098b01395effcacfe4341e364"})
		case 12:
			return build("1.26.0",
				blob{size: 276956564, sum: "4fa231294c2643911d2a7d16469c4808b0bdcdc4b5f4063d3a53744ce25b683a"},
				blob{size: 23101400, sum: "7fe6f3306ea455b3d1493ea8b95bf442b48a216e459c47564152e5f7d5ded2c6"},
				blob{size: 400831992, sum: "347599963df41207241245c1725d9b14eaa79db846d7cd670fd84262563f130b"})
		}
	}
	return product{}
}

// cudaPlugin returns the plugin library for a major release of CUDA, which
// registers with the plain library. Its packages, onnxruntime-ep-cuda12 and
// onnxruntime-ep-cuda13, were not to be had from PyPI in November 2026 ("from
// versions: none"), so that nothing is pinned: a library that nobody has seen
// cannot be checked. To pin one, note package and member
// onnxruntime_ep_cuda/libonnxruntime_providers_cuda.so as for the others.
func cudaPlugin(platform string, major int) product {
	goos, _, _ := strings.Cut(platform, "/")
	return product{
		name:    fmt.Sprintf("the CUDA %d plugin of onnxruntime", major),
		version: "plugin", suffix: fmt.Sprintf("-cuda%d", major), library: cudaName(goos),
	}
}
