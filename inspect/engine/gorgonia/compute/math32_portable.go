//go:build !amd64

package compute

func exp32(dst, x []float32)                       { expGo(dst, x) }
func sigmoid32(dst, x []float32)                   { sigmoidGo(dst, x) }
func silu32(dst, x []float32)                      { siluGo(dst, x) }
func tanh32(dst, x []float32)                      { tanhGo(dst, x) }
func erf32(dst, x []float32)                       { erfGo(dst, x) }
func relu32(dst, x []float32)                      { reluGo(dst, x) }
func hardSwish32(dst, x []float32)                 { hardSwishGo(dst, x) }
func clip32(dst, x []float32, least, most float32) { clipGo(dst, x, least, most) }
