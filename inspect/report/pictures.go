package report

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/image/draw"

	"github.com/filterlens/filterlens/afcc"
	"github.com/filterlens/filterlens/afcc/probe"
)

const (
	// DefaultPictureBytes is the budget of NewPictures when none is given.
	DefaultPictureBytes = 48 << 20
	// ThumbnailSide is the longer side of a thumbnail in pixels; smaller samples
	// stay as they are.
	ThumbnailSide = 48
	// maxPictureWork bounds the products that are summed for the matrices of one
	// layer, to about 15 seconds of one core.
	maxPictureWork = 1e10
)

// Pictures collects what a page shows of a measurement beside its numbers, while
// it is measured: the field matrices of filters, and small images of samples.
//
// It holds a bounded number of bytes, and no more matrices of a layer than can be
// formed in short time. Where there are more field matrices than
// fit, the layer that takes most bytes gives up its filter with the fewest labels
// (of equal d the one with fewer clusters, then the one with the higher number)
// until the rest fits; no layer loses its last filter as long as another has two.
// So what is left of each layer are its filters with the largest share of the
// signal, and large layers get about the same room each.
//
// Field matrices are kept such that the clipped matrix of the page is exactly
// that of package afcc (fieldEncoder.encode). Methods must not be called concurrently.
type Pictures struct {
	budget int64
	used   int64 // bytes of the page taken by matrices
	layers []*layerPictures

	thumbs     map[int][]byte
	thumbBytes int64
}

// layerPictures holds the matrices of one tap, those with most labels first.
type layerPictures struct {
	tensor  string
	filters []fieldPicture
	bytes   int64
	// tops lists the samples of each filter, in the same order, drawn or not.
	tops [][]probe.TopSample
}

// A fieldPicture is the field matrix of one filter, compressed. Codes stand for
// fields between low and the filter's largest; without codes the matrix is kept
// as the two factors that it is a product of.
type fieldPicture struct {
	filter int
	codes  bool
	low    float32
	packed []byte
}

// pageBytes is what base64 makes of it.
func (f *fieldPicture) pageBytes() int64 { return base64Bytes(len(f.packed)) }

func base64Bytes(n int) int64 { return int64(n+2) / 3 * 4 }

// NewPictures returns an empty collection. budget is the number of bytes that
// pictures may take in a page, a quarter of it kept for thumbnails when layers
// have top samples; at 0 and below it is DefaultPictureBytes.
func NewPictures(budget int64) *Pictures {
	if budget <= 0 {
		budget = DefaultPictureBytes
	}
	return &Pictures{budget: budget, thumbs: make(map[int][]byte)}
}

// fieldBudget is the part of the budget that matrices may take.
func (p *Pictures) fieldBudget() int64 {
	for _, l := range p.layers {
		if len(l.tops) > 0 {
			return p.budget - p.budget/4
		}
	}
	return p.budget
}

// Add takes the field matrices of a layer; it is meant for probe.Options.Each,
// and keeps nothing of f. Filters with fields that are not finite have no
// picture. The error says that l and f do not belong together.
func (p *Pictures) Add(l *probe.Layer, f probe.Fields) error {
	if n := f.K * f.F * f.P; f.K < 1 || f.P < 1 || f.F != len(l.Filters) || len(f.W) != n || len(f.Means) != n {
		return errors.New("fields and filters of layer " + l.Name() + " do not belong together")
	}
	lp := &layerPictures{tensor: l.Tensor}
	p.layers = append(p.layers, lp)
	order := byLabels(l.Filters)
	if len(l.Top) == len(l.Filters) {
		for _, i := range order {
			lp.tops = append(lp.tops, l.Top[i])
		}
	}
	order = slices.DeleteFunc(order, func(i int) bool { return l.Filters[i].NonFinite })
	codes := codesAreSmaller(f.K, f.P)
	if work := float64(f.K) * float64(f.K) * float64(f.P); codes {
		order = order[:min(len(order), max(1, int(maxPictureWork/work)))]
	}
	// A few at a time, so that no more is held than the budget and these.
	size := max(1, runtime.GOMAXPROCS(0))
	encoders := make([]fieldEncoder, size)
	pictures := make([]fieldPicture, size)
	for added := 0; added < len(order); {
		chunk := order[added:min(added+size, len(order))]
		var wg sync.WaitGroup
		for n, i := range chunk {
			wg.Go(func() { pictures[n] = encoders[n].encode(f, &l.Filters[i], l.Stats.Theta, codes) })
		}
		wg.Wait()
		for n := range chunk {
			lp.filters = append(lp.filters, pictures[n])
			lp.bytes += pictures[n].pageBytes()
			p.used += pictures[n].pageBytes()
			added++
		}
		p.shrink()
		if len(lp.filters) < added {
			// Those that follow would be given up as well.
			break
		}
	}
	return nil
}

// byLabels orders filters by falling d, then N_c.
func byLabels(filters []afcc.Filter) []int {
	order := make([]int, len(filters))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(filters[b].D(), filters[a].D()), cmp.Compare(len(filters[b].Clusters), len(filters[a].Clusters)))
	})
	return order
}

// shrink gives up matrices until the rest fits.
func (p *Pictures) shrink() {
	budget := p.fieldBudget()
	for p.used > budget {
		var most *layerPictures
		rank := func(l *layerPictures) (bool, int64) { return len(l.filters) > 1, l.bytes }
		for _, l := range p.layers {
			if len(l.filters) == 0 {
				continue
			}
			if most == nil {
				most = l
				continue
			}
			several, n := rank(l)
			if severalMost, m := rank(most); several && !severalMost || several == severalMost && n > m {
				most = l
			}
		}
		if most == nil {
			return
		}
		last := len(most.filters) - 1
		n := most.filters[last].pageBytes()
		most.filters[last] = fieldPicture{}
		most.filters = most.filters[:last]
		most.bytes -= n
		p.used -= n
	}
}

// layer returns the pictures of a tap, nil when there are none.
func (p *Pictures) layer(tensor string) *layerPictures {
	if p == nil {
		return nil
	}
	for _, l := range p.layers {
		if l.tensor == tensor {
			return l
		}
	}
	return nil
}

// codesAreSmaller chooses between the two forms of a matrix: a byte for each
// field, of which about a fifth is saved by packing, or both factors, 4 bytes a
// number, which hardly pack.
func codesAreSmaller(k, p int) bool { return 0.8*float64(k) < 8*float64(p) }

// A fieldEncoder is what one goroutine reuses from matrix to matrix.
type fieldEncoder struct {
	matrix         []float32
	weights, means []float32
	raw            []byte
	packed         bytes.Buffer
	w              *flate.Writer
}

// encode packs the field matrix of a filter. In both forms the side of the
// threshold on which a field lies is not lost.
//
// As codes, a field is one byte, row by row. With t = theta times the largest
// field, 0 to 127 are spaced evenly from the lowest field to t and stand for
// fields that do not pass the threshold, 128 to 255 from t to the largest and
// stand for those that do, as afcc compares them: in float32, m/max > theta.
// Without a field above 0 nothing passes, and 0 to 127 reach from the lowest to
// the largest.
//
// As factors, the filter's K x P weights and after them its K x P label means
// are kept as float32, the first bytes of all numbers before the second ones.
// Their products are exact in float64 and summed in the order of the positions,
// so that every reader gets the fields that afcc.FieldMatrix gives.
func (e *fieldEncoder) encode(f probe.Fields, filter *afcc.Filter, theta float64, codes bool) fieldPicture {
	pic := fieldPicture{filter: filter.Index, codes: codes}
	e.gather(f, filter.Index)
	if codes {
		e.matrix = probe.Fields{W: e.weights, Means: e.means, K: f.K, F: 1, P: f.P}.Matrix(e.matrix, 0)
		e.raw, pic.low = appendCodes(e.raw[:0], e.matrix, theta)
	} else {
		e.raw = appendFactors(e.raw[:0], e.weights, e.means)
	}
	pic.packed = bytes.Clone(e.pack())
	return pic
}

// gather puts the weights and label means of one filter side by side: K x P each.
func (e *fieldEncoder) gather(f probe.Fields, filter int) {
	e.weights, e.means = e.weights[:0], e.means[:0]
	for j := range f.K {
		from := (j*f.F + filter) * f.P
		e.weights = append(e.weights, f.W[from:from+f.P]...)
		e.means = append(e.means, f.Means[from:from+f.P]...)
	}
}

// pack compresses raw. Writing to memory cannot fail, and neither can the level.
func (e *fieldEncoder) pack() []byte {
	e.packed.Reset()
	if e.w == nil {
		e.w, _ = flate.NewWriter(&e.packed, flate.DefaultCompression)
	} else {
		e.w.Reset(&e.packed)
	}
	e.w.Write(e.raw)
	e.w.Close()
	return e.packed.Bytes()
}

// appendCodes appends a code for each field of a matrix and returns the lowest
// finite field.
func appendCodes(dst []byte, m []float32, theta float64) (codes []byte, low float32) {
	top := float32(math.Inf(-1))
	low = float32(math.Inf(1))
	for _, v := range m {
		top = max(top, v)
		if !math.IsInf(float64(v), 0) {
			low = min(low, v)
		}
	}
	low = min(low, top)
	limit, step := float64(top), float32(theta)
	if top > 0 {
		limit *= theta
	}
	level := func(v, from, to float64) byte {
		if to <= from {
			return 0
		}
		return byte(math.Round(127 * min(1, max(0, (v-from)/(to-from)))))
	}
	for _, v := range m {
		if top > 0 && v/top > step {
			dst = append(dst, 128+level(float64(v), limit, float64(top)))
		} else {
			dst = append(dst, level(float64(v), float64(low), limit))
		}
	}
	return dst, low
}

func appendFactors(dst []byte, weights, means []float32) []byte {
	for b := range 4 {
		for _, list := range [][]float32{weights, means} {
			for _, v := range list {
				dst = append(dst, byte(math.Float32bits(v)>>(8*b)))
			}
		}
	}
	return dst
}

// packRatios packs the ratios of filters, F x K, as little endian int16 in units
// of 1e-4; what lies outside is held at the ends. A filter without ratios has
// -32768 throughout.
func packRatios(filters []afcc.Filter, k int) []byte {
	var e fieldEncoder
	e.raw = make([]byte, 0, 2*k*len(filters))
	for _, f := range filters {
		for j := range k {
			v := int16(math.MinInt16)
			if j < len(f.Ratios) {
				v = int16(math.Round(min(math.MaxInt16, max(-math.MaxInt16, 1e4*float64(f.Ratios[j])))))
			}
			e.raw = binary.LittleEndian.AppendUint16(e.raw, uint16(v))
		}
	}
	return e.pack()
}

// AddSamples takes thumbnails of the layers' top samples (probe.Layer.Top) while
// there is room for them: the first of every filter, filters with most labels
// first, then the second ones, and so on. image returns a sample by its number
// in the data set (dataset.Set.Image) and must be safe for concurrent use. A
// sample that has no image goes without; the error is the context's.
func (p *Pictures) AddSamples(ctx context.Context, image func(sample int) (image.Image, error)) error {
	budget := p.budget - p.used
	size := 4 * max(1, runtime.GOMAXPROCS(0))
	thumbs := make([][]byte, size)
	for chunk := range slices.Chunk(p.wanted(), size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var wg sync.WaitGroup
		for n, sample := range chunk {
			wg.Go(func() {
				thumbs[n] = nil
				if m, err := image(sample); err == nil {
					thumbs[n] = thumbnail(m)
				}
			})
		}
		wg.Wait()
		for n, sample := range chunk {
			if thumbs[n] == nil {
				continue
			}
			b := base64Bytes(len(thumbs[n]))
			if p.thumbBytes+b > budget {
				return nil
			}
			p.thumbs[sample] = thumbs[n]
			p.thumbBytes += b
		}
	}
	return nil
}

// wanted lists the samples of which thumbnails are asked for, each once, the most
// wanted first.
func (p *Pictures) wanted() []int {
	filters, places := 0, 0
	for _, l := range p.layers {
		filters = max(filters, len(l.tops))
		for _, t := range l.tops {
			places = max(places, len(t))
		}
	}
	var list []int
	seen := make(map[int]bool)
	for place := range places {
		for n := range filters {
			for _, l := range p.layers {
				if n < len(l.tops) && place < len(l.tops[n]) {
					if s := l.tops[n][place].Sample; !seen[s] {
						seen[s] = true
						list = append(list, s)
					}
				}
			}
		}
	}
	return list
}

// thumbnail shrinks an image and writes it as PNG or JPEG, whichever is smaller;
// nil when it has no pixels.
func thumbnail(m image.Image) []byte {
	b := m.Bounds()
	side := max(b.Dx(), b.Dy())
	if b.Empty() {
		return nil
	}
	if side > ThumbnailSide {
		scale := func(n int) int { return max(1, n*ThumbnailSide/side) }
		small := image.NewRGBA(image.Rect(0, 0, scale(b.Dx()), scale(b.Dy())))
		draw.CatmullRom.Scale(small, small.Bounds(), m, b, draw.Src, nil)
		m = small
	}
	var asPNG, asJPEG bytes.Buffer
	if png.Encode(&asPNG, m) != nil || jpeg.Encode(&asJPEG, m, &jpeg.Options{Quality: 85}) != nil {
		return nil
	}
	if asPNG.Len() < asJPEG.Len() {
		return asPNG.Bytes()
	}
	return asJPEG.Bytes()
}
