package onnxfile

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
)

// An empty message takes two bytes in a file and up to some hundred in memory,
// so that a hostile file of 64 MB could ask for 10 GB. The skeleton's cost is
// therefore estimated before it is decoded.
const (
	// freeMemory is what any skeleton may take, in bytes.
	freeMemory = 48 << 20
	// maxGrowth is how many times its own size a larger one may take. Real models
	// of many nodes with short names are estimated at 14 times theirs.
	maxGrowth = 24
	// maxAmplification is more than any message takes by byte in the file, so
	// that small skeletons need no look.
	maxAmplification = 256
	// costStep is how much of a message is kept before the walk looks at what it
	// takes, so that it need not go through all of a hostile file.
	costStep = 1 << 20
)

var errMemory = errors.New("full of empty messages")

// messageCost is what a message takes in memory, apart from what it holds.
type messageCost struct {
	name   protoreflect.Name
	size   int64
	fields map[protowire.Number]fieldCost
}

type fieldCost struct {
	message *messageCost
	// size is that of one value besides its content: the element of a list with
	// the room that lists grow by, the block that holds an optional scalar.
	size int64
	// packed is the size of one element of a packed list, bytes the fewest bytes
	// that one takes in the file; 0 for other fields.
	packed, bytes int64
}

// messageCosts returns the costs of the schema's messages as they lie in memory.
func messageCosts() (map[protoreflect.FullName]*messageCost, error) {
	all := map[protoreflect.FullName]*messageCost{}
	var build func(protoreflect.MessageDescriptor) (*messageCost, error)
	build = func(d protoreflect.MessageDescriptor) (*messageCost, error) {
		if c, ok := all[d.FullName()]; ok {
			return c, nil
		}
		t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			return nil, err
		}
		size := int64(reflect.TypeOf(t.Zero().Interface()).Elem().Size())
		c := &messageCost{
			name:   d.Name(),
			size:   size + size/8, // memory is handed out in steps
			fields: make(map[protowire.Number]fieldCost, d.Fields().Len()),
		}
		all[d.FullName()] = c
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			var cost fieldCost
			switch f.Kind() {
			case protoreflect.MessageKind:
				if cost.message, err = build(f.Message()); err != nil {
					return nil, err
				}
				cost.size = 16 // a pointer
			case protoreflect.StringKind, protoreflect.BytesKind:
				cost.size = 48 // pointer, length and capacity
			case protoreflect.FloatKind:
				cost = fieldCost{size: 8, packed: 4, bytes: 4}
			case protoreflect.DoubleKind:
				cost = fieldCost{size: 16, packed: 8, bytes: 8}
			default:
				cost = fieldCost{size: 16, packed: 8, bytes: 1}
			}
			if f.ContainingOneof() != nil {
				cost.size += 16 // what stands for the choice
			}
			c.fields[f.Number()] = cost
		}
		return c, nil
	}
	_, err := build((*onnxpb.ModelProto)(nil).ProtoReflect().Descriptor())
	return all, err
}

// checkCost fails when decoding the skeleton b would take far more memory than
// b itself. The estimate is generous: lists are taken to have grown to twice
// their length.
func checkCost(b []byte) error {
	if int64(len(b)) <= freeMemory/maxAmplification {
		return nil
	}
	all, err := messageCosts()
	if err != nil {
		return err
	}
	c := coster{limit: costLimit(int64(len(b)))}
	return c.add(b, all[kindModel.message()], 0)
}

// costLimit is what a skeleton of n bytes may take.
func costLimit(n int64) int64 { return max(freeMemory, maxGrowth*n) }

// message returns the name of the schema's message.
func (k kind) message() protoreflect.FullName {
	return "filterlens.onnx." + protoreflect.FullName([...]string{kindModel: "ModelProto", kindGraph: "GraphProto", kindNode: "NodeProto",
		kindAttribute: "AttributeProto", kindTensor: "TensorProto", kindSparse: "SparseTensorProto", kindTraining: "TrainingInfoProto",
		kindFunction: "FunctionProto"}[k])
}

// An account is what the fields of a message take that the walk has kept so far.
type account struct {
	coster
	counted int // how far into the skeleton
}

// settle fails when the fields of a message of kind k, which begin where the
// account ends and go on to the end of out, take more than the whole skeleton
// may, however the file goes on: left bytes of it are not read yet. What else is
// wrong with them is for checkCost to find.
func (s *scanner) settle(a *account, out []byte, k kind, left int64) error {
	if s.costs == nil {
		var err error
		if s.costs, err = messageCosts(); err != nil {
			return err
		}
	}
	a.limit = costLimit(int64(len(out)) + left)
	err := a.add(out[a.counted:], s.costs[k.message()], 0)
	a.counted = len(out)
	if errors.Is(err, errMemory) {
		return &FormatError{Offset: -1, Err: err}
	}
	return nil
}

type coster struct{ used, limit int64 }

func (c *coster) add(b []byte, m *messageCost, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	c.used += m.size
	for len(b) > 0 {
		if c.used > c.limit {
			return fmt.Errorf("without its weights it would take more than %d MB of memory, the limit for its size; it is %w, here in a %s", c.limit>>20, errMemory, m.name)
		}
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return wireError(n)
		}
		k := protowire.ConsumeFieldValue(num, typ, b[n:])
		if k < 0 {
			return wireError(k)
		}
		value := b[n : n+k]
		b = b[n+k:]
		f, ok := m.fields[num]
		c.used += f.size
		if typ != protowire.BytesType {
			if !ok {
				c.used += 2 * int64(n+k) // an unknown field is kept as it is
			}
			continue
		}
		body, _ := protowire.ConsumeBytes(value)
		switch {
		case f.message != nil:
			if err := c.add(body, f.message, depth+1); err != nil {
				return err
			}
		case f.packed > 0:
			c.used += int64(len(body)) / f.bytes * f.packed
		default:
			c.used += int64(len(body))
		}
	}
	return nil
}
