// Package onnxpb holds the generated types of the ONNX file format. Only
// generated code may enter.
package onnxpb

//go:generate sh -c "go build -o ${TMPDIR:-/tmp}/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go && protoc --plugin=${TMPDIR:-/tmp}/protoc-gen-go --go_out=. --go_opt=paths=source_relative onnx.proto"
