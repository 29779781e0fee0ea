package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Digest returns the SHA-256, in hexadecimal, of the samples index: of their IDs,
// labels and content, in the order of the IDs. The content is what Leaks compares:
// pixels of a record, bytes of an image file. Unlike Split.Hash it changes when a
// file is replaced by another of the same name. Every sample is read once, by all
// processors; done, which may be nil, is told from time to time how many have been.
//
// An image file that cannot be read counts as one without content, as Batches
// leaves it out. The error is an *Error or the context's.
func (s *Set) Digest(ctx context.Context, index []int, done func(n int)) (string, error) {
	sums := make([][sha256.Size]byte, len(index))
	// Blocks of neighbours, which lie together in a file.
	const block = 64
	var next atomic.Int64
	var mu sync.Mutex // guards what follows and done
	var first error
	n := 0
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(index)+block-1)/block) {
		wg.Go(func() {
			w := new(scratch)
			for {
				from := int(next.Add(block)) - block
				if from >= len(index) {
					return
				}
				to := min(from+block, len(index))
				err := ctx.Err()
				for k := from; k < to && err == nil; k++ {
					sums[k], err = s.sum(index[k], w)
					if err != nil && s.src.lenient() {
						sums[k], err = [sha256.Size]byte{}, nil
					}
				}
				mu.Lock()
				n += to - from
				if err != nil && first == nil {
					first = err
				}
				failed := first != nil
				if !failed && done != nil {
					done(n)
				}
				mu.Unlock()
				if failed {
					return
				}
			}
		})
	}
	wg.Wait()
	if first != nil {
		return "", first
	}
	order := make([]int, len(index))
	ids := make([]string, len(index))
	for k, i := range index {
		order[k], ids[k] = k, s.ID(i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(ids[a], ids[b]) })
	h := sha256.New()
	for _, k := range order {
		fmt.Fprintf(h, "%s\x00%d\x00%x\n", ids[k], s.Label(index[k]), sums[k])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
