#ifndef FILTERLENS_NATIVE_H
#define FILTERLENS_NATIVE_H

#include <stddef.h>
#include <stdint.h>

// The C interface of ONNX Runtime is a table of function pointers to which
// every release only appends. The numbers are the places of the functions that
// the binding does not offer, counted from 0 in the order that is published
// with release 1.24. TestSlots compares them with the published header.
enum {
	FL_GET_ERROR_MESSAGE = 2,
	FL_GET_TENSOR_MUTABLE_DATA = 51,
	FL_GET_TENSOR_ELEMENT_TYPE = 60,
	FL_GET_DIMENSIONS_COUNT = 61,
	FL_GET_DIMENSIONS = 62,
	FL_GET_TENSOR_TYPE_AND_SHAPE = 65,
	FL_CREATE_CPU_MEMORY_INFO = 69,
	FL_ALLOCATOR_FREE = 76,
	FL_GET_ALLOCATOR_WITH_DEFAULT_OPTIONS = 78,
	FL_RELEASE_STATUS = 93,
	FL_RELEASE_MEMORY_INFO = 94,
	FL_RELEASE_VALUE = 96,
	FL_RELEASE_TENSOR_TYPE_AND_SHAPE_INFO = 99,
	FL_RUN_WITH_BINDING = 133,
	FL_CREATE_IO_BINDING = 134,
	FL_RELEASE_IO_BINDING = 135,
	FL_BIND_INPUT = 136,
	FL_BIND_OUTPUT = 137,
	FL_BIND_OUTPUT_TO_DEVICE = 138,
	FL_GET_BOUND_OUTPUT_VALUES = 140,
	FL_CLEAR_BOUND_OUTPUTS = 142,
	FL_GET_TENSOR_MEMORY_INFO = 194,
	FL_MEMORY_INFO_GET_DEVICE_TYPE = 225,
	FL_GET_BUILD_INFO_STRING = 254,
	FL_GET_EP_DEVICES = 303,
	FL_SESSION_OPTIONS_APPEND_EXECUTION_PROVIDER_V2 = 304,
	FL_EP_DEVICE_EP_NAME = 312,
	FL_SESSION_GET_MEMORY_INFO_FOR_OUTPUTS = 381,
	FL_SESSION_GET_EP_GRAPH_ASSIGNMENT_INFO = 407,
	FL_EP_ASSIGNED_SUBGRAPH_GET_EP_NAME = 408,
	FL_EP_ASSIGNED_SUBGRAPH_GET_NODES = 409,
	FL_EP_ASSIGNED_NODE_GET_NAME = 410,
	FL_EP_ASSIGNED_NODE_GET_OPERATOR_TYPE = 412,
};

// Everything that the library owns is opaque here: env, options, session,
// value, binding, memory info and status are its own pointers. A status that is
// not NULL is an error, to be given back with fl_release_status.
typedef const void *const *fl_api;
typedef void *fl_status;

// fl_api_of asks OrtGetApiBase, given by its address, for the table of an API
// version. It is NULL when the library is older.
fl_api fl_api_of(void *get_api_base, uint32_t version, const char **library_version);

const char *fl_build_info(fl_api api);
const char *fl_error_message(fl_api api, fl_status status);
void fl_release_status(fl_api api, fl_status status);

fl_status fl_ep_devices(fl_api api, void *env, void *const **devices, size_t *n);
const char *fl_ep_name(fl_api api, void *device);
fl_status fl_append_provider(fl_api api, void *options, void *env, void *device,
	const char *const *keys, const char *const *values, size_t n);

fl_status fl_assignment(fl_api api, void *session, void *const **parts, size_t *n);
fl_status fl_part_provider(fl_api api, void *part, const char **name);
fl_status fl_part_nodes(fl_api api, void *part, void *const **nodes, size_t *n);
fl_status fl_node_name(fl_api api, void *node, const char **name);
fl_status fl_node_operator(fl_api api, void *node, const char **name);

fl_status fl_cpu_memory(fl_api api, void **info);
void fl_release_memory(fl_api api, void *info);
fl_status fl_output_memory(fl_api api, void *session, const void **infos, size_t n);

fl_status fl_new_binding(fl_api api, void *session, void **binding);
void fl_release_binding(fl_api api, void *binding);
fl_status fl_bind_input(fl_api api, void *binding, const char *name, void *value);
fl_status fl_bind_output(fl_api api, void *binding, const char *name, void *value);
fl_status fl_bind_output_device(fl_api api, void *binding, const char *name, const void *memory);
void fl_clear_outputs(fl_api api, void *binding);
fl_status fl_run_binding(fl_api api, void *session, void *run, void *binding);

// fl_bound_outputs copies pointers of at most n values to values, in the order
// in which they were bound; the caller releases each. *have is how many there
// are: when it differs from n nothing is copied and nothing is kept.
fl_status fl_bound_outputs(fl_api api, void *binding, void **values, size_t n, size_t *have);
void fl_release_value(fl_api api, void *value);

// fl_tensor_shape returns the type and the rank of a tensor and at most n of its
// dimensions, fl_tensor_data where its elements lie and whether the processor
// can read them there.
fl_status fl_tensor_shape(fl_api api, void *value, int *type, size_t *rank, int64_t *dims, size_t n);
fl_status fl_tensor_data(fl_api api, void *value, void **data, int *readable);

#endif
