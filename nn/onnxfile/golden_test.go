package onnxfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
)

// golden is what testdata/golden.py, on the Python package onnx, reads in a file.
type golden struct {
	File            string
	Opset           int64
	Inputs, Outputs []goldenValue
	Ops             map[string]int
	Weights         int
	Parameters      int
	SHA256          string
}

// goldenValue is a name and a shape, in a list.
type goldenValue Value

func (v *goldenValue) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&v.Name, &v.Shape})
}

// TestGolden compares with what the Python package onnx reads in each model of the shelf:
// every node, attribute and weight, by a hash.
func TestGolden(t *testing.T) {
	lines, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	folder := enginetest.Model(t, ".")
	var known []string
	for in := json.NewDecoder(bytes.NewReader(lines)); in.More(); {
		var want golden
		if err := in.Decode(&want); err != nil {
			t.Fatal(err)
		}
		known = append(known, want.File)
		t.Run(want.File, func(t *testing.T) {
			path := filepath.Join(folder, want.File)
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				path = filepath.Join(folder, "mtcnn", want.File)
			}
			g := readFile(t, path)
			got := golden{
				File: want.File, Opset: g.Opset, Weights: len(g.Weights), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(dump(g)))),
				Inputs: goldenValues(g.Inputs), Outputs: goldenValues(g.Outputs), Ops: map[string]int{},
			}
			for _, n := range g.Nodes {
				got.Ops[n.Op]++
			}
			for _, w := range g.Weights {
				got.Parameters += len(w.Floats)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, want %+v; testdata/golden.py --text shows what the hash is of", got, want)
			}
		})
	}
	for _, pattern := range []string{"*.onnx", "mtcnn/*.onnx"} {
		paths, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if !slices.Contains(known, filepath.Base(path)) {
				t.Errorf("%s is not in testdata/golden.jsonl: make it anew with testdata/golden.py", path)
			}
		}
	}
}

// TestRuntimeAgrees compares inputs and outputs with what ONNX Runtime reads.
func TestRuntimeAgrees(t *testing.T) {
	for _, name := range []string{
		"face_detection_yunet_2023mar.onnx", "scrfd_2.5g_kps_640.onnx", "scrfd_500m_kps_640.onnx", "yunet_n_dynamic.onnx",
		"yunet_s_dynamic.onnx", "mtcnn/pnet.onnx", "mtcnn/rnet.onnx", "mtcnn/onet.onnx",
	} {
		t.Run(name, func(t *testing.T) {
			path := enginetest.Model(t, name)
			g := readFile(t, path)
			e := enginetest.Open(t, path)
			defer e.Close()
			for what, pair := range map[string]struct {
				got  []Value
				want []engine.Value
			}{"inputs": {g.Inputs, e.Inputs()}, "outputs": {g.Outputs, e.Outputs()}} {
				var want []Value
				for _, v := range pair.want {
					want = append(want, Value{v.Name, v.Shape})
				}
				if !reflect.DeepEqual(pair.got, want) {
					t.Errorf("%s: %v, want %v", what, pair.got, want)
				}
			}
		})
	}
}

func readFile(t *testing.T, path string) *Graph {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	checkGraph(t, g)
	return g
}

func goldenValues(values []Value) (all []goldenValue) {
	for _, v := range values {
		all = append(all, goldenValue(v))
	}
	return all
}

// dump returns all that there is in g, as testdata/golden.py writes it.
func dump(g *Graph) string {
	var b strings.Builder
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "%s %s %s %s", n.Op, n.Name, "("+strings.Join(n.Inputs, " ")+")", "("+strings.Join(n.Outputs, " ")+")")
		var attributes []string
		for name, a := range n.Attributes {
			attributes = append(attributes, " "+name+"="+attributeText(a))
		}
		slices.Sort(attributes)
		fmt.Fprintln(&b, strings.Join(attributes, ""))
	}
	var weights []string
	for name, w := range g.Weights {
		weights = append(weights, fmt.Sprintf("%s %s\n", name, tensorText(w)))
	}
	slices.Sort(weights)
	b.WriteString(strings.Join(weights, ""))
	return b.String()
}

func attributeText(a Attribute) string {
	switch {
	case a.Tensor != nil:
		return tensorText(*a.Tensor)
	case a.Ints != nil:
		return fmt.Sprint(a.Ints)
	case a.Floats != nil:
		var bits []string
		for _, f := range a.Floats {
			bits = append(bits, fmt.Sprintf("'%08x'", math.Float32bits(f)))
		}
		return fmt.Sprint(bits)
	case a.String != "":
		return a.String
	case a.Float != 0:
		return fmt.Sprintf("%08x", math.Float32bits(a.Float))
	}
	return fmt.Sprint(a.Int)
}

func tensorText(t Tensor) string {
	kind, hash := "<f4", sha256.New()
	var err error
	if t.Ints != nil {
		kind = "<i8"
		err = binary.Write(hash, binary.LittleEndian, t.Ints)
	} else {
		err = binary.Write(hash, binary.LittleEndian, t.Floats)
	}
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%v %s %x", t.Shape, kind, hash.Sum(nil))
}

// checkGraph checks what Graph promises.
func checkGraph(t *testing.T, g *Graph) {
	t.Helper()
	have := map[string]bool{"": true}
	add := func(name, what string) {
		if name == "" {
			return
		}
		if have[name] {
			t.Errorf("%s %q has the name of something before it", what, name)
		}
		have[name] = true
	}
	for _, v := range g.Inputs {
		add(v.Name, "input")
	}
	for name, w := range g.Weights {
		add(name, "weights")
		n := int64(1)
		for _, size := range w.Shape {
			n *= size
		}
		if w.Floats != nil && w.Ints != nil || int64(len(w.Floats)+len(w.Ints)) != n {
			t.Errorf("weights %q: %d floats and %d integers for the shape %v", name, len(w.Floats), len(w.Ints), w.Shape)
		}
	}
	for i, n := range g.Nodes {
		for _, name := range n.Inputs {
			if !have[name] {
				t.Errorf("%s takes %q before it is there", n.label(i), name)
			}
		}
		for _, name := range n.Outputs {
			add(name, "output")
		}
	}
	if len(g.Outputs) == 0 {
		t.Error("no outputs")
	}
	for _, v := range slices.Concat(g.Inputs, g.Outputs) {
		if v.Name == "" || !have[v.Name] || v.Shape == nil {
			t.Errorf("input or output %+v is not known", v)
		}
	}
}
