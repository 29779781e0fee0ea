package dataset

import "image"

// toRGB converts one pixel.
type toRGB func(y, cb, cr uint8) (r, g, b uint8)

// limitedToRGB converts the YCbCr of lossy WebP: ITU-R BT.601 with luma in
// 16..235 and chroma in 16..240. The webp package hands it out as image.YCbCr,
// which stands for the full range of JPEG; taken at its word, black would come
// out as 16 (golang/go issue 40173).
func limitedToRGB(y, cb, cr uint8) (r, g, b uint8) {
	// 16 bit fixed point of 255/219 and of 255/224 times BT.601's 1.402,
	// 0.344136, 0.714136, 1.772.
	const (
		half   = 1 << 15
		luma   = 76309
		crToR  = 104597
		cbToG  = 25675
		crToG  = 53279
		cbToB  = 132201
		yZero  = 16
		cxZero = 128
	)
	l := (int32(y)-yZero)*luma + half
	u, v := int32(cb)-cxZero, int32(cr)-cxZero
	clip := func(v int32) uint8 { return uint8(max(0, min(v>>16, 255))) }
	return clip(l + crToR*v), clip(l - cbToG*u - crToG*v), clip(l + cbToB*u)
}

// fromYCbCr fills the planes r, g and b. Chroma of half the resolution is
// interpolated, 3/4 of the near and 1/4 of the far sample in each direction, as
// libjpeg and libwebp do unless told otherwise; other ratios are repeated.
func fromYCbCr(p *image.YCbCr, r, g, b []uint8, rgb toRGB) {
	w, h := p.Rect.Dx(), p.Rect.Dy()
	half := [2]bool{} // across, down
	switch p.SubsampleRatio {
	case image.YCbCrSubsampleRatio420:
		half = [2]bool{true, true}
	case image.YCbCrSubsampleRatio422:
		half = [2]bool{true, false}
	case image.YCbCrSubsampleRatio440:
		half = [2]bool{false, true}
	}
	if half == [2]bool{} || p.Rect.Min != (image.Point{}) {
		i := 0
		for y := p.Rect.Min.Y; y < p.Rect.Max.Y; y++ {
			for x := p.Rect.Min.X; x < p.Rect.Max.X; x++ {
				c := p.COffset(x, y)
				r[i], g[i], b[i] = rgb(p.Y[p.YOffset(x, y)], p.Cb[c], p.Cr[c])
				i++
			}
		}
		return
	}
	cw, ch := w, h
	if half[0] {
		cw = (w + 1) / 2
	}
	if half[1] {
		ch = (h + 1) / 2
	}
	// sums holds a row of chroma, interpolated down: 4 times the value where
	// there is something to interpolate.
	sums := [2][]int32{make([]int32, cw), make([]int32, cw)}
	cx := [2][]uint8{make([]uint8, w), make([]uint8, w)}
	for y := range h {
		near, far, scale := y, y, int32(1)
		if half[1] {
			near, scale = y/2, 4
			far = max(0, min(near+2*(y&1)-1, ch-1))
		}
		for k, plane := range [2][]uint8{p.Cb, p.Cr} {
			a, f := plane[near*p.CStride:][:cw], plane[far*p.CStride:][:cw]
			sum := sums[k]
			for x := range sum {
				if scale == 4 {
					sum[x] = 3*int32(a[x]) + int32(f[x])
				} else {
					sum[x] = int32(a[x])
				}
			}
			out := cx[k]
			if !half[0] {
				for x := range out {
					// Rounding alternates, so that it does not shift the mean.
					out[x] = uint8((sum[x] + 1 + int32(y&1)) >> 2)
				}
				continue
			}
			shift, even, odd := 4, int32(8), int32(7)
			if scale == 1 {
				shift, even, odd = 2, 1, 2
			}
			for x := range out {
				n := x / 2
				if x&1 == 0 {
					out[x] = uint8((3*sum[n] + sum[max(n-1, 0)] + even) >> shift)
				} else {
					out[x] = uint8((3*sum[n] + sum[min(n+1, cw-1)] + odd) >> shift)
				}
			}
		}
		luma := p.Y[y*p.YStride:][:w]
		for x, v := range luma {
			i := y*w + x
			r[i], g[i], b[i] = rgb(v, cx[0][x], cx[1][x])
		}
	}
}
