package export

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/fixtures/arch"
	"github.com/filterlens/filterlens/inspect"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// Whatever differs from the file that was read, be it a name, is found, whether its
// numbers lie in the file or beside it; but for what the plan says.
func TestUntouched(t *testing.T) {
	planned := map[string]bool{"w.b": true}
	for _, beside := range []bool{false, true} {
		m := open(t, newNet().conv("a", 3, 4).conv("b", 4, 4).head(4).save(t, beside))
		for _, c := range []struct {
			name string
			edit func(d *onnxfile.Draft)
			want string
		}{
			{"nothing", func(*onnxfile.Draft) {}, ""},
			{"a planned weight and the record", func(d *onnxfile.Draft) {
				d.SetFloat32(d.Initializer("w.b"), make([]float32, 4*4*9), 4, 4, 3, 3)
				setMetadata(d.Model, MetadataKey, "{}")
			}, ""},
			{"another weight", func(d *onnxfile.Draft) {
				d.SetFloat32(d.Initializer("w.a"), make([]float32, 4*3*9), 4, 3, 3, 3)
			}, `tensor "w.a" is changed`},
			{"a bias", func(d *onnxfile.Draft) { d.SetFloat32(d.Initializer("b.classifier"), make([]float32, 6), 6) }, `tensor "b.classifier" is changed`},
			{"a tensor more", func(d *onnxfile.Draft) {
				d.Model.Graph.Initializer = append(d.Model.Graph.Initializer, &onnxpb.TensorProto{Name: proto.String("new"), DataType: proto.Int32(1), Dims: []int64{0}})
			}, "4 tensors became 5"},
			{"the name of a node", func(d *onnxfile.Draft) { d.Model.Graph.Node[1].Name = proto.String("other") }, `node 1 "a.relu" (Relu) is changed`},
			{"an attribute", func(d *onnxfile.Draft) { d.Model.Graph.Node[0].Attribute[0].Ints[1] = 0 }, `node 0 "a" (Conv) is changed`},
			{"the shape of a planned weight", func(d *onnxfile.Draft) {
				d.SetFloat32(d.Initializer("w.b"), make([]float32, 4*4*9), 4, 4, 9, 1)
			}, "something else"},
			{"the opset", func(d *onnxfile.Draft) { d.Model.OpsetImport[0].Version = proto.Int64(14) }, "something else"},
			{"other metadata", func(d *onnxfile.Draft) { setMetadata(d.Model, "k", "v") }, "something else"},
		} {
			t.Run(fmt.Sprintf("%s, beside %v", c.name, beside), func(t *testing.T) {
				d := m.Handle.Draft()
				if err := d.InlineExternal(); err != nil {
					t.Fatal(err)
				}
				c.edit(d)
				path := filepath.Join(t.TempDir(), "out.onnx")
				if err := arch.Write(path, d); err != nil {
					t.Fatal(err)
				}
				written, err := inspect.Open(t.Context(), path, inspect.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer written.Close()
				err = checkUntouched(t.Context(), m, written, planned)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		}
	}
}
