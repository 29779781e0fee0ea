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

func add32(dst, x, y []float32) int            { return 0 }
func mul32(dst, x, y []float32) int            { return 0 }
func addOne32(dst, x []float32, y float32) int { return 0 }
func mulOne32(dst, x []float32, y float32) int { return 0 }

func maxInto32(dst, src []float32, step int) int { return 0 }
