#include "native.h"

// Each function casts one place of the table to the published signature.
#define CALL(slot, result, ...) ((result(*)(__VA_ARGS__))api[slot])
#define STATUS(slot, ...) CALL(slot, fl_status, __VA_ARGS__)

struct base {
	fl_api (*get_api)(uint32_t);
	const char *(*get_version_string)(void);
};

fl_api fl_api_of(void *get_api_base, uint32_t version, const char **library_version) {
	const struct base *base = ((const struct base *(*)(void))get_api_base)();
	*library_version = base->get_version_string();
	return base->get_api(version);
}

const char *fl_build_info(fl_api api) {
	return CALL(FL_GET_BUILD_INFO_STRING, const char *, void)();
}

const char *fl_error_message(fl_api api, fl_status status) {
	return CALL(FL_GET_ERROR_MESSAGE, const char *, const void *)(status);
}

void fl_release_status(fl_api api, fl_status status) {
	CALL(FL_RELEASE_STATUS, void, void *)(status);
}

fl_status fl_ep_devices(fl_api api, void *env, void *const **devices, size_t *n) {
	return STATUS(FL_GET_EP_DEVICES, const void *, void *const **, size_t *)(env, devices, n);
}

const char *fl_ep_name(fl_api api, void *device) {
	return CALL(FL_EP_DEVICE_EP_NAME, const char *, const void *)(device);
}

fl_status fl_append_provider(fl_api api, void *options, void *env, void *device,
	const char *const *keys, const char *const *values, size_t n) {
	const void *devices[1] = {device};
	return STATUS(FL_SESSION_OPTIONS_APPEND_EXECUTION_PROVIDER_V2, void *, void *, const void *const *, size_t,
		const char *const *, const char *const *, size_t)(options, env, devices, 1, keys, values, n);
}

fl_status fl_assignment(fl_api api, void *session, void *const **parts, size_t *n) {
	return STATUS(FL_SESSION_GET_EP_GRAPH_ASSIGNMENT_INFO, const void *, void *const **, size_t *)(session, parts, n);
}

fl_status fl_part_provider(fl_api api, void *part, const char **name) {
	return STATUS(FL_EP_ASSIGNED_SUBGRAPH_GET_EP_NAME, const void *, const char **)(part, name);
}

fl_status fl_part_nodes(fl_api api, void *part, void *const **nodes, size_t *n) {
	return STATUS(FL_EP_ASSIGNED_SUBGRAPH_GET_NODES, const void *, void *const **, size_t *)(part, nodes, n);
}

fl_status fl_node_name(fl_api api, void *node, const char **name) {
	return STATUS(FL_EP_ASSIGNED_NODE_GET_NAME, const void *, const char **)(node, name);
}

fl_status fl_node_operator(fl_api api, void *node, const char **name) {
	return STATUS(FL_EP_ASSIGNED_NODE_GET_OPERATOR_TYPE, const void *, const char **)(node, name);
}

fl_status fl_cpu_memory(fl_api api, void **info) {
	// A device allocator and memory of the default type, as the API numbers them.
	return STATUS(FL_CREATE_CPU_MEMORY_INFO, int, int, void **)(0, 0, info);
}

void fl_release_memory(fl_api api, void *info) {
	CALL(FL_RELEASE_MEMORY_INFO, void, void *)(info);
}

fl_status fl_output_memory(fl_api api, void *session, const void **infos, size_t n) {
	return STATUS(FL_SESSION_GET_MEMORY_INFO_FOR_OUTPUTS, const void *, const void **, size_t)(session, infos, n);
}

fl_status fl_new_binding(fl_api api, void *session, void **binding) {
	return STATUS(FL_CREATE_IO_BINDING, void *, void **)(session, binding);
}

void fl_release_binding(fl_api api, void *binding) {
	CALL(FL_RELEASE_IO_BINDING, void, void *)(binding);
}

fl_status fl_bind_input(fl_api api, void *binding, const char *name, void *value) {
	return STATUS(FL_BIND_INPUT, void *, const char *, const void *)(binding, name, value);
}

fl_status fl_bind_output(fl_api api, void *binding, const char *name, void *value) {
	return STATUS(FL_BIND_OUTPUT, void *, const char *, const void *)(binding, name, value);
}

fl_status fl_bind_output_device(fl_api api, void *binding, const char *name, const void *memory) {
	return STATUS(FL_BIND_OUTPUT_TO_DEVICE, void *, const char *, const void *)(binding, name, memory);
}

void fl_clear_outputs(fl_api api, void *binding) {
	CALL(FL_CLEAR_BOUND_OUTPUTS, void, void *)(binding);
}

fl_status fl_run_binding(fl_api api, void *session, void *run, void *binding) {
	return STATUS(FL_RUN_WITH_BINDING, void *, const void *, const void *)(session, run, binding);
}

void fl_release_value(fl_api api, void *value) {
	CALL(FL_RELEASE_VALUE, void, void *)(value);
}

fl_status fl_bound_outputs(fl_api api, void *binding, void **values, size_t n, size_t *have) {
	void *allocator = NULL, **out = NULL;
	fl_status status = STATUS(FL_GET_ALLOCATOR_WITH_DEFAULT_OPTIONS, void **)(&allocator);
	*have = 0;
	if (status) return status;
	status = STATUS(FL_GET_BOUND_OUTPUT_VALUES, const void *, void *, void ***, size_t *)(binding, allocator, &out, have);
	if (status || !out) return status;
	for (size_t i = 0; i < *have; i++) {
		if (*have == n) values[i] = out[i];
		else fl_release_value(api, out[i]);
	}
	return STATUS(FL_ALLOCATOR_FREE, void *, void *)(allocator, out);
}

fl_status fl_tensor_shape(fl_api api, void *value, int *type, size_t *rank, int64_t *dims, size_t n) {
	void *info = NULL;
	fl_status status = STATUS(FL_GET_TENSOR_TYPE_AND_SHAPE, const void *, void **)(value, &info);
	if (status) return status;
	status = STATUS(FL_GET_TENSOR_ELEMENT_TYPE, const void *, int *)(info, type);
	if (!status) status = STATUS(FL_GET_DIMENSIONS_COUNT, const void *, size_t *)(info, rank);
	if (!status && n > 0 && n >= *rank) {
		status = STATUS(FL_GET_DIMENSIONS, const void *, int64_t *, size_t)(info, dims, *rank);
	}
	CALL(FL_RELEASE_TENSOR_TYPE_AND_SHAPE_INFO, void, void *)(info);
	return status;
}

fl_status fl_tensor_data(fl_api api, void *value, void **data, int *readable) {
	const void *memory = NULL;
	int device = 0;
	fl_status status = STATUS(FL_GET_TENSOR_MEMORY_INFO, const void *, const void **)(value, &memory);
	if (status) return status;
	CALL(FL_MEMORY_INFO_GET_DEVICE_TYPE, void, const void *, int *)(memory, &device);
	*readable = device == 0;
	return STATUS(FL_GET_TENSOR_MUTABLE_DATA, void *, void **)(value, data);
}
