package ort

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
