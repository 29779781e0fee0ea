package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/proto"

	"github.com/filterlens/filterlens/inspect/dataset"
	"github.com/filterlens/filterlens/inspect/engine/ort"
	"github.com/filterlens/filterlens/inspect/onnxfile"
	"github.com/filterlens/filterlens/inspect/onnxfile/onnxpb"
	"github.com/filterlens/filterlens/inspect/report/schema"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"filterlens": main})
}

// TestScripts runs testdata/script or, without cgo, testdata/nocgo. Each script has in its environment
//
//	$VGG       a fixture model, with its preprocessing and labels recorded
//	$EFFNET    the other fixture model
//	$GLYPHS    their data set
//	$BADOP     the same model with an operator that no runtime knows
//	$REVERSED  the same model with the order of its labels turned around and no
//	           preprocessing recorded
//
// and what compareVariants makes of it.
func TestScripts(t *testing.T) {
	fixtures, err := filepath.Abs("../../fixtures")
	if err != nil {
		t.Fatal(err)
	}
	vgg := filepath.Join(fixtures, "vgg16-glyphs20.onnx")
	dir := t.TempDir()
	variants := map[string]string{}
	for name, edit := range map[string]func(*onnxpb.ModelProto){
		"BADOP": nonsense, "REVERSED": reverseLabels,
		"MISSING":  func(m *onnxpb.ModelProto) { m.Graph.Initializer = m.Graph.Initializer[1:] },
		"CHANNELS": func(m *onnxpb.ModelProto) { setDim(m.Graph.Input[0], 1, 3) },
		"NOMETA":   func(m *onnxpb.ModelProto) { m.MetadataProps = m.MetadataProps[:1] },
	} {
		variants[name] = filepath.Join(dir, strings.ToLower(name)+".onnx")
		writeVariant(t, vgg, variants[name], edit)
	}
	maps.Copy(variants, compareVariants(t, vgg, dir))
	// A binary without cgo has scripts of its own.
	scripts := "testdata/script"
	if !ort.Available {
		scripts = "testdata/nocgo"
	}
	library := sync.OnceValues(func() (ort.Library, error) {
		if !ort.Available {
			return ort.Library{}, nil
		}
		return ort.Locate(context.Background(), ort.Options{Log: func(s string) { t.Log(s) }})
	})
	testscript.Run(t, testscript.Params{
		Dir:                 scripts,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			lib, err := library()
			if err != nil {
				return err
			}
			// A program with the race detector sleeps a second before it ends, unless told
			// otherwise; there are some hundreds of runs.
			e.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE"))
			e.Setenv("FILTERLENS_ORT_LIBRARY", lib.Path)
			e.Setenv("VGG", vgg)
			e.Setenv("EFFNET", filepath.Join(fixtures, "efficientnet-b0-glyphs20.onnx"))
			e.Setenv("EFFBN", filepath.Join(fixtures, "efficientnet-b0-bn-glyphs20.onnx"))
			e.Setenv("GLYPHS", filepath.Join(fixtures, "glyphs20"))
			for name, path := range variants {
				e.Setenv(name, path)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "lines": lines, "truncate": truncate, "empty-dir": emptyDir, "images": images, "convert": convert, "valid": valid,
		},
	})
}

// exits runs a program and checks its exit code: exits 2 filterlens inspect.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var ee *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ee) {
		code = ee.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// valid checks that stdout or a file has a published form: valid stats stats.json.
func valid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: valid schema file")
	}
	b, err := schema.Files.ReadFile(args[0] + ".schema.json")
	ts.Check(err)
	form, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	ts.Check(err)
	c := jsonschema.NewCompiler()
	ts.Check(c.AddResource(args[0], form))
	s, err := c.Compile(args[0])
	ts.Check(err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(s.Validate(doc))
}

// lines checks how many lines stdout, stderr or a file has: lines stderr 1.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines file count")
	}
	if n := strconv.Itoa(strings.Count(ts.ReadFile(args[0]), "\n")); n != args[1] {
		ts.Fatalf("%s has %s lines, want %s:\n%s", args[0], n, args[1], ts.ReadFile(args[0]))
	}
}

// truncate copies the first bytes of a file: truncate from to count.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: truncate from to count")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	b := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b[:n]), 0o666))
}

// emptyDir checks that a folder holds nothing, hidden files included.
func emptyDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty-dir folder")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// images writes small images, each of another grey, into a folder of each label
// of a file: images folder labels.txt count.
func images(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: images folder labels count")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	for i, label := range nonEmptyLines(ts.ReadFile(args[1])) {
		dir := filepath.Join(ts.MkAbs(args[0]), label)
		ts.Check(os.MkdirAll(dir, 0o777))
		for j := range n {
			m := image.NewGray(image.Rect(0, 0, 8, 8))
			m.Pix[0] = uint8(i*n + j)
			var b bytes.Buffer
			ts.Check(png.Encode(&b, m))
			ts.Check(os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", j)), b.Bytes(), 0o666))
		}
	}
}

// convert writes the first images of each label of a data set in another form,
// which the ending tells: convert from to count. Parquet gets numbers and the
// names that belong to them, a tar shard names, .npz numbers only.
func convert(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: convert from to count")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	set, err := dataset.Open(args[0], dataset.Options{})
	ts.Check(err)
	defer set.Close()
	labels := set.Labels()
	count := make([]int, len(labels))
	type row struct {
		Image []byte `parquet:"image,plain"`
		Label int64  `parquet:"label,plain"`
	}
	var rows []row
	var b, pixels, numbers bytes.Buffer
	shard := tar.NewWriter(&b)
	add := func(name string, data []byte) {
		ts.Check(shard.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}))
		_, err := shard.Write(data)
		ts.Check(err)
	}
	to, ending := ts.MkAbs(args[1]), filepath.Ext(args[1])
	shape := ""
	for i := range set.Len() {
		l := set.Label(i)
		if count[l]++; count[l] > n {
			continue
		}
		m, err := set.Decode(i)
		ts.Check(err)
		var file bytes.Buffer
		ts.Check(png.Encode(&file, &image.Gray{Pix: m.Pix, Stride: m.Width, Rect: image.Rect(0, 0, m.Width, m.Height)}))
		rows = append(rows, row{file.Bytes(), int64(l)})
		if ending == ".tar" {
			add(fmt.Sprintf("%06d.cls", i), []byte(labels[l]))
			add(fmt.Sprintf("%06d.png", i), file.Bytes())
		}
		pixels.Write(m.Pix)
		numbers.WriteByte(byte(l))
		shape = fmt.Sprintf("%d, %d, %d", len(rows), m.Height, m.Width)
	}
	switch ending {
	case ".parquet":
		names, err := json.Marshal(labels)
		ts.Check(err)
		w := parquet.NewGenericWriter[row](&b, parquet.KeyValueMetadata("huggingface", `{"info": {"features": {"label": {"names": `+string(names)+`, "_type": "ClassLabel"}}}}`))
		_, err = w.Write(rows)
		ts.Check(err)
		ts.Check(w.Close())
	case ".tar":
		ts.Check(shard.Close())
	case ".npz":
		z := zip.NewWriter(&b)
		for name, a := range map[string]struct{ shape, data string }{
			"images": {shape, pixels.String()}, "labels": {fmt.Sprintf("%d,", len(rows)), numbers.String()},
		} {
			w, err := z.Create(name + ".npy")
			ts.Check(err)
			header := fmt.Sprintf("{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }\n", a.shape)
			_, err = io.WriteString(w, "\x93NUMPY\x01\x00"+string(binary.LittleEndian.AppendUint16(nil, uint16(len(header))))+header+a.data)
			ts.Check(err)
		}
		ts.Check(z.Close())
	default:
		ts.Fatalf("cannot write %s", args[1])
	}
	ts.Check(os.WriteFile(to, b.Bytes(), 0o666))
}

// writeVariant writes a copy of a model that edit has changed.
func writeVariant(t *testing.T, from, to string, edit func(*onnxpb.ModelProto)) {
	t.Helper()
	f, err := onnxfile.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.Draft()
	edit(d.Model)
	b, err := d.Bytes()
	if err == nil {
		err = os.WriteFile(to, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// setDim fixes a dimension of an input.
func setDim(v *onnxpb.ValueInfoProto, i int, n int64) {
	v.Type.GetTensorType().Shape.Dim[i].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: n}
}

// nonsense gives the first Relu an operator that does not exist.
func nonsense(m *onnxpb.ModelProto) {
	for _, n := range m.Graph.Node {
		if n.GetOpType() == "Relu" {
			n.OpType = proto.String("Nonsense")
			return
		}
	}
}

// reverseLabels turns the recorded labels around and drops the preprocessing.
func reverseLabels(m *onnxpb.ModelProto) {
	m.MetadataProps = slices.DeleteFunc(m.MetadataProps, func(p *onnxpb.StringStringEntryProto) bool { return p.GetKey() == preprocessKey })
	for _, p := range m.MetadataProps {
		if p.GetKey() == labelsKey {
			names := nonEmptyLines(p.GetValue())
			slices.Reverse(names)
			p.Value = proto.String(strings.Join(names, "\n"))
		}
	}
}
