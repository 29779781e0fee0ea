package dataset

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// photo is a JPEG file of about the size of a photograph of side pixels.
func photo(t testing.TB, side, n int) []byte {
	m := noise(side, side, uint64(n))
	for i := range m.Pix {
		m.Pix[i] = uint8(i/4%side) + m.Pix[i]/8
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// BenchmarkShuffled reads the same pictures in shuffled order from each format.
func BenchmarkShuffled(b *testing.B) {
	const side, count = 64, 1000
	files := make([][]byte, count)
	for i := range files {
		files[i] = photo(b, side, i)
	}
	raw := make([]byte, 0, count*side*side*3)
	for range count {
		raw = append(raw, noise(side, side, 1).Pix[:side*side*3]...)
	}
	read := func(b *testing.B, path string) {
		s := mustOpen(b, path, Options{})
		tr := &Transform{Channels: 3, Height: side, Width: side}
		index := make([]int, s.Len())
		for i := range index {
			index[i] = i
		}
		for epoch := 0; b.Loop(); epoch++ {
			for _, err := range s.Batches(context.Background(), Shuffled(index, 50, 1, uint64(epoch)), tr, 1) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(s.Len())*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
	}
	b.Run("folder", func(b *testing.B) {
		dir := b.TempDir()
		for i, f := range files {
			put(b, dir, fmt.Sprintf("%d/%d.jpg", i%10, i), f)
		}
		read(b, dir)
	})
	rows := make([]hfRow, count)
	for i, f := range files {
		rows[i] = hfRow{&hfImage{Bytes: f}, int64(i % 10)}
	}
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Gzip, &parquet.Zstd} {
		b.Run("Parquet/"+codec.String(), func(b *testing.B) {
			read(b, put(b, b.TempDir(), "x.parquet", parquetBytes(b, rows, parquet.Compression(codec),
				parquet.MaxRowsPerRowGroup(100), parquet.PageBufferSize(1<<30))))
		})
	}
	b.Run("tar", func(b *testing.B) {
		var members []tarFile
		for i, f := range files {
			members = append(members, tarFile{fmt.Sprint(i, ".jpg"), f}, tarFile{fmt.Sprint(i, ".cls"), fmt.Append(nil, i%10)})
		}
		read(b, put(b, b.TempDir(), "x.tar", tarBytes(b, members...)))
	})
	for name, method := range map[string]uint16{"stored": zip.Store, "deflated": zip.Deflate} {
		b.Run("NPZ/"+name, func(b *testing.B) {
			x := npy("|u1", "False", fmt.Sprintf("(%d, %d, %d, 3)", count, side, side), raw)
			read(b, put(b, b.TempDir(), "x.npz", npz(b, method, "x", x, "y", labels8(slices.Repeat([]byte{1, 0}, count/2)...))))
		})
	}
}

// BenchmarkParquetRandom reads the bytes of images of a photograph's size from
// one row group in one page of 32 MB, without decoding them.
func BenchmarkParquetRandom(b *testing.B) {
	rows := make([]hfRow, 300)
	for i := range rows {
		data := noise(170, 170, uint64(i)).Pix // about 115 kB, does not compress
		for k := 3; k < len(data); k += 4 {
			data[k] = byte(k * k >> 5)
		}
		rows[i] = hfRow{&hfImage{Bytes: data}, 0}
	}
	for _, codec := range []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			s := mustOpen(b, put(b, b.TempDir(), "x.parquet", parquetBytes(b, rows, parquet.Compression(codec), parquet.PageBufferSize(1<<30), parquet.DataPageVersion(1))), Options{})
			w := new(scratch)
			src := s.src.(*parquetSet)
			i := 0
			for b.Loop() {
				i = (i + 113) % len(rows)
				got, err := src.bytes(i, w)
				if err != nil || !bytes.Equal(got[:64], rows[i].Image.Bytes[:64]) {
					b.Fatal(err)
				}
			}
		})
	}
}
