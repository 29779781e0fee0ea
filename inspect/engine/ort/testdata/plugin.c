// A plugin provider for tests. It calls itself the CUDA provider and runs on the
// processor. FAKE_PLUGIN says how it behaves:
//
//	refuse   it cannot be registered
//	nodevice it finds no device
//	idle     it takes no node
//	relu     it takes every Relu and computes it
//
// FAKE_PLUGIN_LOG names a file to which it appends what it is told about TF32.
// It is compiled against the header that the Go binding carries.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "onnxruntime_c_api.h"

static const OrtApi *api;
static const OrtEpApi *epapi;

static int mode(const char *want) {
	const char *m = getenv("FAKE_PLUGIN");
	return m && strcmp(m, want) == 0;
}

static OrtStatus *ORT_API_CALL create_state(OrtNodeComputeInfo *self, OrtNodeComputeContext *c, void **state) {
	(void)self, (void)c;
	*state = NULL;
	return NULL;
}

static OrtStatus *ORT_API_CALL compute(OrtNodeComputeInfo *self, void *state, OrtKernelContext *c) {
	(void)self, (void)state;
	const OrtValue *in = NULL;
	OrtValue *out = NULL;
	OrtTensorTypeAndShapeInfo *info = NULL;
	int64_t dims[8];
	size_t rank = 0, n = 0;
	void *x = NULL, *y = NULL;
	OrtStatus *s = api->KernelContext_GetInput(c, 0, &in);
	if (!s) s = api->GetTensorTypeAndShape(in, &info);
	if (!s) s = api->GetDimensionsCount(info, &rank);
	if (!s && rank <= 8) s = api->GetDimensions(info, dims, rank);
	if (!s) s = api->GetTensorShapeElementCount(info, &n);
	if (info) api->ReleaseTensorTypeAndShapeInfo(info);
	if (!s) s = api->KernelContext_GetOutput(c, 0, dims, rank, &out);
	if (!s) s = api->GetTensorMutableData((OrtValue *)in, &x);
	if (!s) s = api->GetTensorMutableData(out, &y);
	for (size_t i = 0; !s && i < n; i++) ((float *)y)[i] = ((float *)x)[i] > 0 ? ((float *)x)[i] : 0;
	return s;
}

static void ORT_API_CALL release_state(OrtNodeComputeInfo *self, void *state) { (void)self, (void)state; }

static OrtNodeComputeInfo relu = {24, create_state, compute, release_state};

static const char *ORT_API_CALL ep_name(const OrtEp *self) { (void)self; return "CUDAExecutionProvider"; }

static OrtStatus *ORT_API_CALL capability(OrtEp *self, const OrtGraph *graph, OrtEpGraphSupportInfo *info) {
	(void)self;
	if (!mode("relu")) return NULL;
	size_t n = 0;
	OrtStatus *s = api->Graph_GetNumNodes(graph, &n);
	if (s || n == 0) return s;
	const OrtNode **nodes = calloc(n, sizeof *nodes);
	s = api->Graph_GetNodes(graph, nodes, n);
	for (size_t i = 0; !s && i < n; i++) {
		const char *op = NULL;
		s = api->Node_GetOperatorType(nodes[i], &op);
		OrtNodeFusionOptions fusion = {24, false};
		if (!s && strcmp(op, "Relu") == 0) s = epapi->EpGraphSupportInfo_AddNodesToFuse(info, &nodes[i], 1, &fusion);
	}
	free(nodes);
	return s;
}

static OrtStatus *ORT_API_CALL compile(OrtEp *self, const OrtGraph **graphs, const OrtNode **nodes, size_t n,
	OrtNodeComputeInfo **infos, OrtNode **contexts) {
	(void)self, (void)graphs, (void)nodes, (void)contexts;
	for (size_t i = 0; i < n; i++) infos[i] = &relu;
	return NULL;
}

static void ORT_API_CALL release_infos(OrtEp *self, OrtNodeComputeInfo **infos, size_t n) { (void)self, (void)infos, (void)n; }

static const char *ORT_API_CALL factory_name(const OrtEpFactory *self) { (void)self; return "CUDAExecutionProvider"; }
static const char *ORT_API_CALL vendor(const OrtEpFactory *self) { (void)self; return "filterlens tests"; }
static uint32_t ORT_API_CALL vendor_id(const OrtEpFactory *self) { (void)self; return 0xF117; }
static const char *ORT_API_CALL version(const OrtEpFactory *self) { (void)self; return "0.0.1"; }
static bool ORT_API_CALL stream_aware(const OrtEpFactory *self) { (void)self; return false; }

static OrtStatus *ORT_API_CALL supported(OrtEpFactory *self, const OrtHardwareDevice *const *devices, size_t n,
	OrtEpDevice **out, size_t max, size_t *have) {
	*have = 0;
	for (size_t i = 0; i < n && *have < max && !mode("nodevice"); i++) {
		if (api->HardwareDevice_Type(devices[i]) != OrtHardwareDeviceType_CPU) continue;
		OrtStatus *s = epapi->CreateEpDevice(self, devices[i], NULL, NULL, &out[*have]);
		if (s) return s;
		++*have;
	}
	return NULL;
}

static OrtStatus *ORT_API_CALL create_ep(OrtEpFactory *self, const OrtHardwareDevice *const *devices,
	const OrtKeyValuePairs *const *metadata, size_t n, const OrtSessionOptions *options, const OrtLogger *logger, OrtEp **ep) {
	(void)self, (void)devices, (void)metadata, (void)n, (void)logger;
	const char *log = getenv("FAKE_PLUGIN_LOG");
	if (log) {
		// The library chooses the prefix: ep.cuda, or ep.cudaexecutionprovider.
		OrtKeyValuePairs *pairs = NULL;
		const char *const *keys = NULL, *const *values = NULL, *value = "none";
		size_t count = 0;
		OrtStatus *s = api->GetSessionOptionsConfigEntries(options, &pairs);
		if (s) return s;
		api->GetKeyValuePairs(pairs, &keys, &values, &count);
		for (size_t i = 0; i < count; i++) {
			const char *end = strrchr(keys[i], '.');
			if (strncmp(keys[i], "ep.cuda", 7) == 0 && end && strcmp(end, ".use_tf32") == 0) value = values[i];
		}
		FILE *f = fopen(log, "a");
		if (f) fprintf(f, "use_tf32=%s\n", value), fclose(f);
		api->ReleaseKeyValuePairs(pairs);
	}
	*ep = calloc(1, sizeof **ep);
	(*ep)->ort_version_supported = 24;
	(*ep)->GetName = ep_name;
	(*ep)->GetCapability = capability;
	(*ep)->Compile = compile;
	(*ep)->ReleaseNodeComputeInfos = release_infos;
	return NULL;
}

static OrtStatus *ORT_API_CALL data_transfer(OrtEpFactory *self, OrtDataTransferImpl **transfer) {
	(void)self;
	*transfer = NULL;
	return NULL;
}

static void ORT_API_CALL release_ep(OrtEpFactory *self, OrtEp *ep) { (void)self; free(ep); }

OrtStatus *CreateEpFactories(const char *name, const OrtApiBase *base, const OrtLogger *logger,
	OrtEpFactory **factories, size_t max, size_t *n) {
	(void)name, (void)logger;
	api = base->GetApi(24);
	epapi = api->GetEpApi();
	*n = 0;
	if (mode("refuse") || max < 1) return api->CreateStatus(ORT_FAIL, "libfake.so.1: cannot open shared object file");
	OrtEpFactory *f = calloc(1, sizeof *f);
	f->ort_version_supported = 24;
	f->GetName = factory_name;
	f->GetVendor = vendor;
	f->GetVendorId = vendor_id;
	f->GetVersion = version;
	f->GetSupportedDevices = supported;
	f->CreateEp = create_ep;
	f->ReleaseEp = release_ep;
	f->IsStreamAware = stream_aware;
	f->CreateDataTransfer = data_transfer;
	factories[0] = f;
	*n = 1;
	return NULL;
}

OrtStatus *ReleaseEpFactory(OrtEpFactory *f) {
	free(f);
	return NULL;
}
