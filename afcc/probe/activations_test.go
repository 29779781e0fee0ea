package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// TestActivations compares with the model run as it is, sample by sample.
func TestActivations(t *testing.T) {
	set := folder(t, testK, 5)
	index := everySample(set)
	slices.Reverse(index)
	body := func(n *net) *net {
		stem := n.conv("conv1", 3, 4, 3, 1).op("Relu").t
		return n.conv("conv2", 4, 4, 3, 1).norm(4).silu().add(stem).pool().head(4)
	}
	models := map[string]*inspect.Model{
		"open":         body(newNet(-1, 3, 8)).model(t, -1, testK),
		"batches of 3": body(newNet(3, 3, 8)).model(t, 3, testK),
		"closed":       closed(t, 4),
	}
	n := body(newNet(-1, 3, 8))
	n.convert(t, onnxfile.Float16)
	n.g.Input[0] = valueInfo("image", onnxfile.Float16, -1, 3, 8, 8)
	models["float16"] = n.model(t, -1, testK)
	n = newNet(-1, 3, 8).channelsLast()
	n.t = n.node("MatMul", []string{n.t, n.weights(3, 6)})
	n.op("Relu").transpose(0, 3, 1, 2).head(6)
	models["channels last"] = n.model(t, -1, testK)
	bothEngines(t, func(t *testing.T, eng engine.Engine) {
		for name, m := range models {
			taps := mustSurvey(t, m).Taps
			if len(taps) > 1 {
				pooled := *taps[0]
				pooled.Pool = 2
				taps = append(taps, &pooled)
			}
			want := make([][][]float32, len(taps))
			for i, tap := range taps {
				whole := *tap
				whole.Pool = 1
				want[i] = perSample(t, eng, m, set, &whole, index)
			}
			opt := testOptions()
			seen := 0
			for a, err := range Activations(t.Context(), eng, m, taps, set, index, opt) {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for r, sample := range a.Index {
					if sample != index[seen] || a.Labels[r] != set.Label(sample) {
						t.Fatalf("%s: sample %d in place of %d", name, sample, index[seen])
					}
					for i, tap := range taps {
						d := tap.features()
						got, want := a.Taps[i][r*d:(r+1)*d], want[i][seen]
						if tap.Pool > 1 {
							w := pooled(want, tap)
							want = make([]float32, len(w))
							for j := range w {
								want[j] = float32(w[j])
							}
						}
						slack := 1e-4
						if name == "float16" {
							slack = 2e-2
						}
						for j := range want {
							if math.Abs(float64(got[j]-want[j])) > slack*(1+math.Abs(float64(want[j]))) {
								t.Fatalf("%s, %s, sample %d: %v, want %v", name, tap.Tensor, sample, got[j], want[j])
							}
						}
					}
					seen++
				}
			}
			if seen != len(index) {
				t.Errorf("%s: %d of %d samples", name, seen, len(index))
			}
		}
	})
}

// TestActivationsRunWhatIsNeeded: nothing behind the last tap is in the graph.
func TestActivationsRunWhatIsNeeded(t *testing.T) {
	m := small(t, testK)
	taps := mustSurvey(t, m).Taps
	for i, tap := range taps {
		b, err := newTrunk(m, maxInline)
		if err != nil {
			t.Fatal(err)
		}
		name := b.features(tap)
		b.g.Output = append(b.g.Output, valueInfo(name, onnxfile.Float, -1, int64(tap.features())))
		b.drop()
		layers := 0
		for _, n := range b.g.Node {
			if n.GetOpType() == "Conv" || n.GetOpType() == "Gemm" {
				layers++
			}
		}
		if layers != i+1 || len(b.g.Initializer) != 2*(i+1) {
			t.Errorf("%s: %d layers with %d weights", tap.Name(), layers, len(b.g.Initializer))
		}
	}
}

// TestDrop: what a nested graph reads from around it is needed, also of nodes that
// stand in another order; what old files list as an input goes with its weight.
func TestDrop(t *testing.T) {
	n := newNet(-1, 3, 8)
	used, unused := n.constFloat([]float32{1}), n.constFloat([]float32{2})
	n.g.Input = append(n.g.Input, valueInfo(used, onnxfile.Float), valueInfo(unused, onnxfile.Float))
	outer := n.node("Add", []string{"image", used})
	inner := &onnxpb.GraphProto{Node: []*onnxpb.NodeProto{{OpType: proto.String("Relu"), Input: []string{outer}, Output: []string{"relu"}}},
		Output: []*onnxpb.ValueInfoProto{{Name: proto.String("relu")}}}
	branch := func(name string) *onnxpb.AttributeProto {
		return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: inner}
	}
	out := n.node("If", []string{"condition"}, branch("then_branch"), branch("else_branch"))
	dead := n.node("Mul", []string{outer, unused})
	n.g.Output = append(n.g.Output, valueInfo(out, onnxfile.Float, -1))
	slices.Reverse(n.g.Node)
	n.drop()
	var left []string
	for _, x := range n.g.Node {
		left = append(left, x.Output[0])
	}
	if !slices.Equal(left, []string{out, outer}) || slices.Contains(left, dead) {
		t.Errorf("left: %q, want %q and %q", left, out, outer)
	}
	if len(n.g.Initializer) != 1 || n.g.Initializer[0].GetName() != used || len(n.g.Input) != 2 || n.g.Input[1].GetName() != used {
		t.Errorf("weights %v, inputs %v", n.g.Initializer, n.g.Input)
	}
}

// TestActivationsEnd: the iteration ends early, with an error, and on a cancelled
// context, and leaves nothing open.
func TestActivationsEnd(t *testing.T) {
	eng, m := runtime(t), small(t, testK)
	dir := imageFolder(t, testK, 6)
	s := samples{t, dir, openSet(t, dir)}
	s.corrupt(0, 7, 8)
	set := openSet(t, dir)
	taps, opt := mustSurvey(t, m).Taps, testOptions()
	for range Activations(t.Context(), eng, m, taps, set, everySample(set), opt) {
		break
	}
	seen := 0
	for a, err := range Activations(t.Context(), eng, m, taps, set, everySample(set), opt) {
		if err != nil {
			t.Fatal(err)
		}
		seen += len(a.Index)
	}
	if seen != 6*testK-3 {
		t.Errorf("%d samples, 3 of %d cannot be read", seen, 6*testK)
	}
	failure := func(ctx context.Context, m *inspect.Model, index []int) (err error) {
		for _, err = range Activations(ctx, eng, m, taps, set, index, opt) {
		}
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := failure(ctx, m, everySample(set)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := failure(t.Context(), m, []int{0, 7}); !errors.Is(err, dataset.ErrEmpty) {
		t.Errorf("nothing readable: %v", err)
	}
	var mismatch *LabelMismatchError
	if err := failure(t.Context(), small(t, testK+1), everySample(set)); !errors.As(err, &mismatch) {
		t.Errorf("other labels: %v", err)
	}
	if got := fmt.Sprint(failure(t.Context(), m, everySample(set))); got != "<nil>" {
		t.Errorf("afterwards: %v", got)
	}
}
