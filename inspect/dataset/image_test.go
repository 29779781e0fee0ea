package dataset

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"path/filepath"
	"strings"
	"testing"
)

func decodeBytes(data []byte) (*Image, error) {
	w := new(scratch)
	err := decodeImage(bytes.NewReader(data), w, 1000)
	return &w.img, err
}

// TestDecodeKeepsValues checks lossless formats and pixel types value by value.
func TestDecodeKeepsValues(t *testing.T) {
	rect := image.Rect(0, 0, 3, 2)
	grey, grey16 := image.NewGray(rect), image.NewGray16(rect)
	rgba, nrgba64 := image.NewRGBA(rect), image.NewNRGBA64(rect)
	alpha := image.NewNRGBA(rect)
	pal := image.NewPaletted(rect, nil)
	for i := range 6 {
		x, y := i%3, i/3
		v := webpPixels[i]
		c := color.NRGBA{v, webpPixels[6+i], webpPixels[12+i], 255}
		grey.SetGray(x, y, color.Gray{v})
		grey16.SetGray16(x, y, color.Gray16{uint16(v)<<8 | 0x7f})
		rgba.Set(x, y, c)
		nrgba64.SetNRGBA64(x, y, color.NRGBA64{uint16(c.R)<<8 | 0xfe, uint16(c.G) << 8, uint16(c.B)<<8 | 1, 0x1234})
		pal.Palette = append(pal.Palette, c)
		pal.SetColorIndex(x, y, uint8(i))
		c.A = uint8(40 * i)
		alpha.SetNRGBA(x, y, c)
	}
	for name, test := range map[string]struct {
		data []byte
		want []uint8
	}{
		"grey":             {pngBytes(t, grey), webpPixels[:6]},
		"grey 16 bit":      {pngBytes(t, grey16), webpPixels[:6]},
		"colour":           {pngBytes(t, rgba), webpPixels},
		"alpha is dropped": {pngBytes(t, alpha), webpPixels},
		"alpha 16 bit":     {pngBytes(t, nrgba64), webpPixels},
		"palette":          {pngBytes(t, pal), webpPixels},
		"webp":             {unbase64(t, losslessWebP), webpPixels},
	} {
		m, err := decodeBytes(test.data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Height != 2 || m.Width != 3 || !bytes.Equal(m.Pix, test.want) {
			t.Errorf("%s: %d channels %dx%d %v, want %v", name, m.Channels, m.Width, m.Height, m.Pix, test.want)
		}
	}
}

// An image of package image has the pixels that Decode gives, whatever the format.
func TestSetImage(t *testing.T) {
	dir := t.TempDir()
	colour := noise(5, 4, 1)
	grey := image.NewGray(image.Rect(0, 0, 3, 2))
	copy(grey.Pix, counting(6))
	put(t, dir, "folder/a/colour.png", pngBytes(t, colour))
	put(t, dir, "folder/b/grey.png", pngBytes(t, grey))
	put(t, dir, "cifar/train.bin", cifar([]byte{1, 99}, []byte{19, 0}))
	put(t, dir, "idx/train-images-idx4-ubyte", idx(idxUint8, []int{2, 2, 2, 3}, counting(24)))
	put(t, dir, "idx/train-labels-idx1-ubyte", idx(idxUint8, []int{2}, []byte{0, 1}))
	put(t, dir, "a.npz", npz(t, zip.Store, "x", npy("|u1", "False", "(1, 3, 2, 4)", counting(24)), "y", labels8(0)))
	put(t, dir, "grey.npz", npz(t, zip.Store, "x", images8(2), "y", labels8(0, 1)))
	put(t, dir, "a.tar", tarBytes(t, tarFile{"1.png", tiny(t, 5)}, tarFile{"1.cls", []byte("0")}))
	put(t, dir, "a.parquet", parquetBytes(t, hfRows(t, 3)))
	for _, c := range []struct {
		path     string
		channels int // of the last sample
	}{{"folder", 1}, {"cifar", 3}, {"idx", 3}, {"a.npz", 3}, {"grey.npz", 1}, {"a.tar", 3}, {"a.parquet", 3}} {
		s := mustOpen(t, filepath.Join(dir, c.path), Options{})
		for i := range s.Len() {
			want, err := s.Decode(i)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Image(i)
			if err != nil {
				t.Fatal(err)
			}
			if got.Bounds() != image.Rect(0, 0, want.Width, want.Height) {
				t.Fatalf("%s: %v, want %dx%d", s.ID(i), got.Bounds(), want.Width, want.Height)
			}
			if _, isGrey := got.(*image.Gray); i == s.Len()-1 && isGrey != (c.channels == 1) || want.Channels == 1 != isGrey {
				t.Errorf("%s: %T of %d channels", s.ID(i), got, want.Channels)
			}
			for at := range want.Width * want.Height {
				r, g, b, a := got.At(at%want.Width, at/want.Width).RGBA()
				for ch, v := range []uint32{r, g, b} {
					if w := want.plane(min(ch, want.Channels-1))[at]; v>>8 != uint32(w) || a != 0xffff {
						t.Fatalf("%s: channel %d of pixel %d is %d, alpha %x, want %d", s.ID(i), ch, at, v>>8, a, w)
					}
				}
			}
		}
	}
	put(t, dir, "folder/b/grey.png", []byte("\x89PNG\r\n\x1a\nrest"))
	s := mustOpen(t, filepath.Join(dir, "folder"), Options{})
	var e *Error
	if m, err := s.Image(1); !errors.As(err, &e) || m != nil {
		t.Errorf("a broken file: %v, %v", m, err)
	}
}

func TestDecodeGIFFrame(t *testing.T) {
	frame := image.NewPaletted(image.Rect(2, 1, 4, 2), color.Palette{color.NRGBA{10, 20, 30, 255}, color.NRGBA{40, 50, 60, 255}})
	frame.Pix = []uint8{0, 1}
	var b bytes.Buffer
	second := image.NewPaletted(image.Rect(0, 0, 1, 1), frame.Palette)
	err := gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{frame, second}, Delay: []int{1, 1}, Config: image.Config{Width: 5, Height: 3}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeBytes(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := []uint8{0, 0, 0, 0, 0, 0, 0, 10, 40, 0, 0, 0, 0, 0, 0}
	if m.Width != 5 || m.Height != 3 || !bytes.Equal(m.plane(0), want) {
		t.Errorf("%dx%d, red %v, want %v", m.Width, m.Height, m.plane(0), want)
	}
}

func TestDecodeWebPRange(t *testing.T) {
	m, err := decodeBytes(unbase64(t, limitedWebP))
	if err != nil {
		t.Fatal(err)
	}
	for c := range 3 {
		if p := m.plane(c); p[0] != 0 || p[15] != 255 {
			t.Errorf("channel %d: black is %d, white %d", c, p[0], p[15])
		}
	}
	for _, test := range []struct{ in, want [3]uint8 }{
		{[3]uint8{16, 128, 128}, [3]uint8{0, 0, 0}},
		{[3]uint8{235, 128, 128}, [3]uint8{255, 255, 255}},
		{[3]uint8{126, 128, 128}, [3]uint8{128, 128, 128}},
		{[3]uint8{81, 90, 240}, [3]uint8{254, 0, 0}}, // red of BT.601
		{[3]uint8{0, 128, 128}, [3]uint8{0, 0, 0}},
	} {
		r, g, b := limitedToRGB(test.in[0], test.in[1], test.in[2])
		if got := [3]uint8{r, g, b}; got != test.want {
			t.Errorf("YCbCr %v is %v, want %v", test.in, got, test.want)
		}
	}
}

// TestChroma compares the interpolation of chroma with its definition in
// floating point, for odd and even sizes down to one pixel.
func TestChroma(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422,
		image.YCbCrSubsampleRatio420, image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio410} {
		for _, size := range [][2]int{{1, 1}, {2, 1}, {1, 2}, {5, 4}, {8, 7}} {
			w, h := size[0], size[1]
			p := image.NewYCbCr(image.Rect(0, 0, w, h), ratio)
			for i := range p.Cb {
				p.Cb[i], p.Cr[i] = uint8(i*37), uint8(255-i*51)
			}
			r, g, b := make([]uint8, w*h), make([]uint8, w*h), make([]uint8, w*h)
			// The conversion hands the chroma through.
			fromYCbCr(p, r, g, b, func(_, cb, cr uint8) (uint8, uint8, uint8) { return cb, cr, 0 })
			across := ratio == image.YCbCrSubsampleRatio422 || ratio == image.YCbCrSubsampleRatio420
			down := ratio == image.YCbCrSubsampleRatio440 || ratio == image.YCbCrSubsampleRatio420
			for y := range h {
				for x := range w {
					want := 0.0
					for _, dy := range taps2(y, h, down) {
						for _, dx := range taps2(x, w, across) {
							want += dy.w * dx.w * float64(p.Cb[p.COffset(dx.at, dy.at)])
						}
					}
					if d := float64(r[y*w+x]) - want; d > 1 || d < -1 {
						t.Errorf("%v %dx%d at %d,%d: %d, want %.2f", ratio, w, h, x, y, r[y*w+x], want)
					}
				}
			}
		}
	}
}

type tap2 struct {
	at int
	w  float64
}

func taps2(x, n int, half bool) []tap2 {
	if !half {
		return []tap2{{x, 1}}
	}
	far := x/2 + 2*(x&1) - 1
	far = max(0, min(far, (n+1)/2-1))
	return []tap2{{x, 0.75}, {min(2*far, n-1), 0.25}}
}

func TestDecodeErrors(t *testing.T) {
	good := pngBytes(t, noise(20, 10, 1))
	huge := bytes.Clone(good)
	binary.BigEndian.PutUint32(huge[16:], 1<<15)
	binary.BigEndian.PutUint32(huge[20:], 1<<15)
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, noise(20, 10, 1), nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		data []byte
		is   error
		text string
	}{
		{"empty", nil, ErrFormat, "empty file"},
		{"text", []byte("hello, this is no image"), ErrFormat, "not a PNG"},
		{"only a signature", good[:8], ErrFormat, "PNG: file ends early"},
		{"cut off", good[:len(good)/2], ErrFormat, "PNG: invalid format: not enough pixel data"},
		{"cut off jpeg", jpg.Bytes()[:jpg.Len()/2], ErrFormat, "JPEG: "},
		{"decompression bomb", huge, ErrTooLarge, "32768x32768 pixels, at most 1000"},
	} {
		_, err := decodeBytes(test.data)
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %q", test.name, err, test.text)
		}
	}
}

func FuzzDecodeImage(f *testing.F) {
	m := noise(4, 3, 1)
	f.Add(pngBytes(f, m))
	var jpg, gf bytes.Buffer
	if err := errors.Join(jpeg.Encode(&jpg, m, nil), gif.Encode(&gf, m, nil)); err != nil {
		f.Fatal(err)
	}
	f.Add(jpg.Bytes())
	f.Add(gf.Bytes())
	f.Add(unbase64(f, losslessWebP))
	f.Add(unbase64(f, limitedWebP))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeBytes(data)
		if err != nil {
			return
		}
		if m.Height*m.Width > 1000 || len(m.Pix) != m.Channels*m.Height*m.Width {
			t.Fatalf("%d channels %dx%d, %d values", m.Channels, m.Width, m.Height, len(m.Pix))
		}
	})
}
