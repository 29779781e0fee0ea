// Package onnxpb holds the generated types of the ONNX file format. Only
// generated code may enter.
package onnxpb

// The schema is named by its path from the module's root, so that the name under
// which it registers is no other package's.
//go:generate sh -c "go build -o ${TMPDIR:-/tmp}/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go && cd ../../.. && protoc --plugin=${TMPDIR:-/tmp}/protoc-gen-go --go_out=. --go_opt=paths=source_relative inspect/onnxfile/onnxpb/onnx.proto"
