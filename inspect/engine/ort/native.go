//go:build cgo

package ort

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/filterlens/filterlens/inspect/engine"
	ort "github.com/yalue/onnxruntime_go"
)

// apiVersion is the version of the C interface that native.h numbers.
const apiVersion = 24

// native calls the functions of the loaded library that the binding does not
// offer: devices of plugin providers, who runs which node, values that stay on
// a device. The library, its environment, its sessions and its values are the
// binding's own; only their addresses are borrowed.
type native struct {
	api   C.fl_api
	env   unsafe.Pointer
	close func() error
}

// newNative joins the library at path, which the binding has loaded already.
func newNative(path string, env unsafe.Pointer) (*native, error) {
	if env == nil {
		return nil, errors.New("the binding hides its environment")
	}
	base, unload, err := apiBase(path)
	if err != nil {
		return nil, err
	}
	var version *C.char
	n := &native{env: env, close: unload}
	n.api = C.fl_api_of(base, apiVersion, &version)
	if n.api == nil {
		return nil, errors.Join(fmt.Errorf("it has no C interface of version %d", apiVersion), unload())
	}
	// A table in another order than the published one would show here, before
	// anything with a side effect is called.
	info, want := C.GoString(C.fl_build_info(n.api)), C.GoString(version)
	if !strings.HasPrefix(info, "ORT Build Info") || want == "" || want != ort.GetVersion() {
		return nil, errors.Join(fmt.Errorf("its C interface is not the published one (version %q, build %q)", want, info), unload())
	}
	return n, nil
}

// check turns a status into an error and releases it.
func (n *native) check(s C.fl_status) error {
	if s == nil {
		return nil
	}
	defer C.fl_release_status(n.api, s)
	return oneLine(errors.New(strings.TrimSpace(C.GoString(C.fl_error_message(n.api, s)))))
}

// captureEnvironment returns an option for the binding that stores the address
// of its environment in env. The binding names the type of the option's
// argument nowhere, so that the function has to be made by reflection.
func captureEnvironment(env *unsafe.Pointer) ort.EnvironmentOption {
	t := reflect.TypeFor[ort.EnvironmentOption]()
	return reflect.MakeFunc(t, func(args []reflect.Value) []reflect.Value {
		*env = args[0].UnsafePointer()
		return []reflect.Value{reflect.Zero(t.Out(0))}
	}).Interface().(ort.EnvironmentOption)
}

// address follows unexported pointer fields of a value of the binding and
// returns the address of the native object at their end, nil where a field has
// another name than in the binding that was tested.
func address(v any, fields ...string) unsafe.Pointer {
	p := reflect.ValueOf(v)
	for _, name := range fields {
		if p.Kind() != reflect.Pointer || p.IsNil() {
			return nil
		}
		if p = p.Elem(); p.Kind() != reflect.Struct {
			return nil
		}
		if p = p.FieldByName(name); p.Kind() != reflect.Pointer {
			return nil
		}
	}
	return p.UnsafePointer()
}

func optionsAddress(o *ort.SessionOptions) unsafe.Pointer { return address(o, "o") }
func runAddress(o *ort.RunOptions) unsafe.Pointer         { return address(o, "o") }
func sessionAddress(s *ort.DynamicAdvancedSession) unsafe.Pointer {
	return address(s, "s", "ortSession")
}
func valueAddress(v ort.Value) unsafe.Pointer { return address(v.GetInternals(), "ortValue") }

var errHidden = errors.New("this build's binding of onnxruntime hides what is needed; report it")

// A device is one that a registered plugin provider can run on.
type device struct {
	provider string
	address  unsafe.Pointer
}

// devices lists the devices of every provider, the CPU's too.
func (n *native) devices() ([]device, error) {
	var found *unsafe.Pointer
	var count C.size_t
	if err := n.check(C.fl_ep_devices(n.api, n.env, &found, &count)); err != nil {
		return nil, err
	}
	var out []device
	for _, d := range unsafe.Slice(found, int(count)) {
		out = append(out, device{C.GoString(C.fl_ep_name(n.api, d)), d})
	}
	return out, nil
}

// appendProvider adds the provider of a device to session options.
func (n *native) appendProvider(o *ort.SessionOptions, d device, settings map[string]string) error {
	options := optionsAddress(o)
	if options == nil {
		return errHidden
	}
	var keys, values []*C.char
	for k, v := range settings {
		keys, values = append(keys, C.CString(k)), append(values, C.CString(v))
	}
	defer func() {
		for i := range keys {
			C.free(unsafe.Pointer(keys[i]))
			C.free(unsafe.Pointer(values[i]))
		}
	}()
	var k, v **C.char
	if len(keys) > 0 {
		k, v = &keys[0], &values[0]
	}
	return n.check(C.fl_append_provider(n.api, options, n.env, d.address, k, v, C.size_t(len(keys))))
}

// assignment returns the nodes that each provider runs, "operator name" each.
func (n *native) assignment(session unsafe.Pointer) (map[string][]string, error) {
	if session == nil {
		return nil, errHidden
	}
	var parts *unsafe.Pointer
	var count C.size_t
	if err := n.check(C.fl_assignment(n.api, session, &parts, &count)); err != nil {
		return nil, err
	}
	out := make(map[string][]string)
	for _, part := range unsafe.Slice(parts, int(count)) {
		var name *C.char
		var nodes *unsafe.Pointer
		var count C.size_t
		if err := n.check(C.fl_part_provider(n.api, part, &name)); err != nil {
			return nil, err
		}
		if err := n.check(C.fl_part_nodes(n.api, part, &nodes, &count)); err != nil {
			return nil, err
		}
		provider := C.GoString(name)
		for _, node := range unsafe.Slice(nodes, int(count)) {
			var op, name *C.char
			if err := n.check(C.fl_node_operator(n.api, node, &op)); err != nil {
				return nil, err
			}
			if err := n.check(C.fl_node_name(n.api, node, &name)); err != nil {
				return nil, err
			}
			out[provider] = append(out[provider], strings.TrimSpace(C.GoString(op)+" "+C.GoString(name)))
		}
	}
	return out, nil
}

// A binding is a set of inputs and outputs of one session, by name.
type binding struct {
	n       *native
	session unsafe.Pointer
	address unsafe.Pointer
	cpu     unsafe.Pointer
	outputs int
}

func (n *native) newBinding(session unsafe.Pointer) (*binding, error) {
	if session == nil {
		return nil, errHidden
	}
	b := &binding{n: n, session: session}
	if err := n.check(C.fl_cpu_memory(n.api, &b.cpu)); err != nil {
		return nil, err
	}
	if err := n.check(C.fl_new_binding(n.api, session, &b.address)); err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

func (b *binding) release() {
	if b.address != nil {
		C.fl_release_binding(b.n.api, b.address)
	}
	if b.cpu != nil {
		C.fl_release_memory(b.n.api, b.cpu)
	}
	b.address, b.cpu = nil, nil
}

func (b *binding) input(name string, value unsafe.Pointer) error {
	if value == nil {
		return errHidden
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return b.n.check(C.fl_bind_input(b.n.api, b.address, c, value))
}

// output has an output written to a value.
func (b *binding) output(name string, value unsafe.Pointer) error {
	if value == nil {
		return errHidden
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	b.outputs++
	return b.n.check(C.fl_bind_output(b.n.api, b.address, c, value))
}

// outputIn has an output allocated in a memory.
func (b *binding) outputIn(name string, memory unsafe.Pointer) error {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	b.outputs++
	return b.n.check(C.fl_bind_output_device(b.n.api, b.address, c, memory))
}

// clear forgets the outputs; inputs stay.
func (b *binding) clear() {
	C.fl_clear_outputs(b.n.api, b.address)
	b.outputs = 0
}

func (b *binding) run(options unsafe.Pointer) error {
	if options == nil {
		return errHidden
	}
	return b.n.check(C.fl_run_binding(b.n.api, b.session, options, b.address))
}

// results returns the outputs in the order in which they were bound. The caller
// releases each.
func (b *binding) results() ([]unsafe.Pointer, error) {
	if b.outputs == 0 {
		return nil, nil
	}
	values := make([]unsafe.Pointer, b.outputs)
	var have C.size_t
	err := b.n.check(C.fl_bound_outputs(b.n.api, b.address, &values[0], C.size_t(len(values)), &have))
	if err == nil && int(have) != len(values) {
		err = fmt.Errorf("%d outputs are bound and %d came back", len(values), have)
	}
	if err != nil {
		b.n.releaseValues(values)
		return nil, err
	}
	return values, nil
}

func (n *native) releaseValues(values []unsafe.Pointer) {
	for _, v := range values {
		if v != nil {
			C.fl_release_value(n.api, v)
		}
	}
}

// outputMemory returns where the session leaves each of its count outputs.
func (n *native) outputMemory(session unsafe.Pointer, count int) ([]unsafe.Pointer, error) {
	if session == nil {
		return nil, errHidden
	}
	memory := make([]unsafe.Pointer, count)
	if err := n.check(C.fl_output_memory(n.api, session, &memory[0], C.size_t(count))); err != nil {
		return nil, err
	}
	return memory, nil
}

// dtype returns the name of a value's element type.
func (n *native) dtype(value unsafe.Pointer) (string, error) {
	var typ C.int
	var rank C.size_t
	err := n.check(C.fl_tensor_shape(n.api, value, &typ, &rank, nil, 0))
	return dtypeName(uint64(typ)), err
}

// readable says whether the processor can read a value where it lies.
func (n *native) readable(value unsafe.Pointer) (bool, error) {
	var data unsafe.Pointer
	var yes C.int
	err := n.check(C.fl_tensor_data(n.api, value, &data, &yes))
	return yes != 0, err
}

// tensor copies a value that the processor can read into Go memory.
func (n *native) tensor(value unsafe.Pointer) (*engine.Tensor, error) {
	var typ, readable C.int
	var rank C.size_t
	var data unsafe.Pointer
	if err := n.check(C.fl_tensor_shape(n.api, value, &typ, &rank, nil, 0)); err != nil {
		return nil, err
	}
	shape := make([]int64, rank)
	if rank > 0 {
		if err := n.check(C.fl_tensor_shape(n.api, value, &typ, &rank, (*C.int64_t)(&shape[0]), rank)); err != nil {
			return nil, err
		}
	}
	if err := n.check(C.fl_tensor_data(n.api, value, &data, &readable)); err != nil {
		return nil, err
	}
	dtype := dtypeName(uint64(typ))
	count, ok := elements(shape)
	if !ok {
		return nil, fmt.Errorf("a tensor of shape %v", shape)
	}
	t := &engine.Tensor{Shape: shape, Data: makeData(dtype, count)}
	switch {
	case t.Data == nil:
		return nil, fmt.Errorf("values of type %s cannot be handed over", dtype)
	case readable == 0:
		return nil, errors.New("the value lies on a device that the processor cannot read")
	case count == 0:
		return t, nil
	}
	to := reflect.ValueOf(t.Data)
	size := int(count) * int(to.Type().Elem().Size())
	copy(unsafe.Slice((*byte)(to.UnsafePointer()), size), unsafe.Slice((*byte)(data), size))
	return t, nil
}

// apiBase finds OrtGetApiBase in a library and what gives the library up again.
func apiBase(path string) (base unsafe.Pointer, unload func() error, err error) {
	handle, err := openLibrary(path)
	if err != nil {
		return nil, nil, err
	}
	unload = func() error { return closeLibrary(handle) }
	if base = symbol(handle, "OrtGetApiBase"); base == nil {
		return nil, nil, errors.Join(errors.New("it does not export OrtGetApiBase"), unload())
	}
	return base, unload, nil
}
