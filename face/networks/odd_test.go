//go:build cgo

package networks_test

import (
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/mtcnn"
	"github.com/mienproject/mien/face/networks"
)

// value is an input or output of a network. shape is what the file declares, with -1
// for any size. gives is the shape of an output when the network runs, if it differs.
type value struct {
	name  string
	kind  ort.TensorElementDataType
	shape []int64
	gives []int64
}

func float32s(name string, shape ...int64) value {
	return value{name: name, kind: ort.TensorElementDataTypeFloat, shape: shape}
}

// network writes an ONNX file whose outputs are zeros for all inputs.
func network(t *testing.T, path string, inputs, outputs []value) {
	t.Helper()
	number := func(b []byte, field protowire.Number, n int64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(n))
	}
	part := func(b []byte, field protowire.Number, p []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), p)
	}
	text := func(b []byte, field protowire.Number, s string) []byte { return part(b, field, []byte(s)) }
	info := func(v value) []byte {
		var shape []byte
		for i, n := range v.shape {
			if n < 0 {
				shape = part(shape, 1, text(nil, 2, fmt.Sprintf("%s_%d", v.name, i)))
			} else {
				shape = part(shape, 1, number(nil, 1, n))
			}
		}
		tensor := part(number(nil, 1, int64(v.kind)), 2, shape)
		return part(text(nil, 1, v.name), 2, part(nil, 1, tensor))
	}

	var graph []byte
	for _, v := range outputs {
		shape := v.shape
		if v.gives != nil {
			shape = v.gives
		}
		// ConstantOfShape of a constant shape; 7 means int64.
		constant := number(number(nil, 1, int64(len(shape))), 2, 7)
		for _, n := range shape {
			constant = number(constant, 7, n)
		}
		constant = text(constant, 8, v.name+"_shape")
		size := map[ort.TensorElementDataType]int{ort.TensorElementDataTypeFloat: 4, ort.TensorElementDataTypeFloat16: 2, ort.TensorElementDataTypeDouble: 8, ort.TensorElementDataTypeUint8: 1}[v.kind]
		zero := part(number(number(nil, 1, 1), 2, int64(v.kind)), 9, make([]byte, size))
		attribute := number(part(text(nil, 1, "value"), 5, zero), 20, 4) // 4 means a tensor
		node := text(nil, 1, v.name+"_shape")
		node = text(node, 2, v.name)
		node = text(node, 4, "ConstantOfShape")
		node = part(node, 5, attribute)
		graph = part(graph, 1, node)
		graph = part(graph, 5, constant)
	}
	graph = text(graph, 2, "odd")
	for _, v := range inputs {
		graph = part(graph, 11, info(v))
	}
	for _, v := range outputs {
		graph = part(graph, 12, info(v))
	}
	file := part(number(nil, 1, 8), 7, graph)
	file = part(file, 8, number(nil, 2, 13))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// yunetOf returns the outputs of a YuNet for an input of width × height.
func yunetOf(width, height int64) []value {
	var v []value
	for _, kind := range []struct {
		name   string
		values int64
	}{{"cls", 1}, {"obj", 1}, {"bbox", 4}, {"kps", 10}} {
		for _, s := range []int64{8, 16, 32} {
			v = append(v, float32s(fmt.Sprintf("%s_%d", kind.name, s), 1, width/s*(height/s), kind.values))
		}
	}
	return v
}

// scrfdOf returns the outputs of an SCRFD with that many anchors in each cell.
func scrfdOf(width, height, anchors int64) []value {
	var v []value
	for _, values := range []int64{1, 4, 10} {
		for _, s := range []int64{8, 16, 32} {
			v = append(v, float32s(fmt.Sprintf("out_%d_%d", values, s), anchors*(width/s)*(height/s), values))
		}
	}
	return v
}

func with(values []value, i int, change func(*value)) []value {
	change(&values[i])
	return values
}

// TestOddGrids checks that networks which resemble YuNet or SCRFD, but have another
// form, are rejected when they are loaded, with an error that says what was found.
func TestOddGrids(t *testing.T) {
	enginetest.Options(t) // skips the test if there is no runtime
	half := func(v *value) { v.kind = ort.TensorElementDataTypeFloat16 }
	double := func(v *value) { v.kind = ort.TensorElementDataTypeDouble }
	bytes := func(v *value) { v.kind = ort.TensorElementDataTypeUint8 }
	in := func(shape ...int64) []value { return []value{float32s("input", shape...)} }
	for _, c := range []struct {
		name            string
		inputs, outputs []value
		words           []string // in the error; nil if the model is valid
	}{
		{"a good YuNet", in(1, 3, 64, 96), yunetOf(96, 64), nil},
		{"of a batch of any size", in(-1, 3, 64, 96), yunetOf(96, 64), nil},
		{"as small as can be", in(1, 3, 32, 32), yunetOf(32, 32), nil},
		{"a good SCRFD", in(1, 3, 64, 96), scrfdOf(96, 64, 2), nil},

		{"float16 in", with(in(1, 3, 64, 96), 0, half), yunetOf(96, 64), []string{"YuNet", "input[1×3×64×96] of float16", "float32"}},
		{"double in", with(in(1, 3, 64, 96), 0, double), scrfdOf(96, 64, 2), []string{"SCRFD", "of double", "float32"}},
		{"uint8 in", with(in(1, 3, 64, 96), 0, bytes), yunetOf(96, 64), []string{"YuNet", "of uint8", "float32"}},
		{"float16 out", in(1, 3, 64, 96), with(yunetOf(96, 64), 11, half), []string{"YuNet", "kps_32[1×6×10] of float16", "float32"}},
		{"double out", in(1, 3, 64, 96), with(scrfdOf(96, 64, 2), 4, double), []string{"SCRFD", "out_4_16[48×4] of double", "float32"}},

		{"a batch of four", in(4, 3, 64, 96), yunetOf(96, 64), []string{"input[4×3×64×96]", "only batches of one image"}},
		{"a batch of four, any size", in(4, 3, -1, -1), scrfdOf(96, 64, 2), []string{"input[4×3×?×?]", "only batches of one image"}},
		{"any height", in(1, 3, -1, 96), yunetOf(96, 64), []string{"input[1×3×?×96]", "must both be fixed"}},
		{"any width", in(1, 3, 64, -1), scrfdOf(96, 64, 2), []string{"input[1×3×64×?]", "must both be fixed"}},
		{"tiny", in(1, 3, 8, 8), yunetOf(96, 64), []string{"input[1×3×8×8]", "multiples of 32"}},
		{"no multiple", in(1, 3, 64, 100), scrfdOf(96, 64, 2), []string{"input[1×3×64×100]", "multiples of 32"}},
		{"huge", in(1, 3, 20000, 20000), yunetOf(96, 64), []string{"input[1×3×20000×20000]", "2560×2560"}},
		{"beyond all numbers", in(1, 3, 1<<62, 1<<62), yunetOf(96, 64), []string{"2560×2560"}},
		{"channels last", in(1, 64, 96, 3), yunetOf(96, 64), []string{"input[1×64×96×3]", "[1×3×height×width]"}},
		{"one channel", in(1, 1, 64, 96), yunetOf(96, 64), []string{"input[1×1×64×96]", "three planes"}},
		{"three axes", in(3, 64, 96), scrfdOf(96, 64, 2), []string{"input[3×64×96]", "three planes"}},

		{"other cells than it has", in(1, 3, 64, 96), yunetOf(96, 96), []string{"YuNet", "for an input of [1×3×64×96], its output cls_8 is [1×144×1] instead of [1×96×1]"}},
		{"other cells than it says", in(1, 3, 64, 96), with(yunetOf(96, 64), 6, func(v *value) { v.gives = []int64{1, 24, 4} }), []string{"bbox_8 is [1×24×4] instead of [1×96×4]"}},
		{"any size by its input alone", in(1, 3, -1, -1), yunetOf(640, 640), []string{"for an input of [1×3×64×96], its output cls_8 is [1×6400×1]"}},
		{"one anchor", in(1, 3, 64, 96), scrfdOf(96, 64, 1), []string{"SCRFD", "out_1_8 is [96×1] instead of [192×1]"}},
		{"boxes of five values", in(1, 3, 64, 96), with(yunetOf(96, 64), 6, func(v *value) { v.shape = []int64{1, 96, 5} }), []string{"bbox_8 is [1×96×5]"}},
		{"no points", in(1, 3, 64, 96), scrfdOf(96, 64, 2)[:6], []string{"unknown model family", "out_4_32[12×4]", "SCRFD with points"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "odd.onnx")
			network(t, path, c.inputs, c.outputs)
			d, err := open(t, path)
			if c.words == nil {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Detect(t.Context(), image.NewGray(image.Rect(0, 0, 300, 200)), face.Options{}); err != nil {
					t.Error(err)
				}
				return
			}
			rejected(t, err, append(c.words, path)...)
		})
	}
	t.Run("ErrUnknownFamily", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "odd.onnx")
		network(t, path, in(1, 3, 64, 96), scrfdOf(96, 64, 2)[:6])
		if _, err := open(t, path); !errors.Is(err, networks.ErrUnknownFamily) {
			t.Errorf("%v", err)
		}
	})
}

// TestOddMTCNN checks that folders which are not MTCNN's are rejected with an error
// that names the wrong files.
func TestOddMTCNN(t *testing.T) {
	shelf := enginetest.Model(t, "mtcnn")
	pnet := func(in value, cells ...int64) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			network(t, path, []value{in}, []value{
				{name: "offsets", kind: in.kind, shape: []int64{-1, -1, -1, 4}, gives: append(cells, 4)},
				{name: "scores", kind: ort.TensorElementDataTypeFloat, shape: []int64{-1, -1, -1, 2}, gives: append(cells, 2)},
			})
		}
	}
	for _, c := range []struct {
		name  string
		files map[string]string                          // sources of files that are replaced
		made  map[string]func(t *testing.T, path string) // files that are made
		words []string                                   // in the error; nil if the model is valid
	}{
		{"good", nil, nil, nil},
		{"nothing in it", map[string]string{"pnet": "", "rnet": "", "onet": ""}, nil, []string{"does not contain pnet.onnx, rnet.onnx, onet.onnx", "for all other models, name the file"}},
		{"one is missing", map[string]string{"rnet": ""}, nil, []string{"does not contain rnet.onnx"}},
		{"P-net and R-net swapped", map[string]string{"pnet": "rnet", "rnet": "pnet"}, nil, []string{"pnet.onnx is not MTCNN's P-net", "[?×24×24×3]", "[?×?×?×3]"}},
		{"R-net and O-net swapped", map[string]string{"rnet": "onet", "onet": "rnet"}, nil, []string{"rnet.onnx is not MTCNN's R-net", "[?×48×48×3]", "[?×24×24×3]"}},
		{"YuNet in it", map[string]string{"onet": "../yunet_n_dynamic"}, nil, []string{"onet.onnx is not MTCNN's O-net", "[?×3×?×?]", "[?×48×48×3]"}},
		{"channels first", nil, map[string]func(*testing.T, string){"pnet": pnet(float32s("in", -1, 3, -1, -1), 1, 7, 3)}, []string{"in[?×3×?×?]", "channels last"}},
		{"one size", nil, map[string]func(*testing.T, string){"pnet": pnet(float32s("in", 1, 12, 12, 3), 1, 1, 1)}, []string{"in[1×12×12×3]", "[?×?×?×3]"}},
		{"uint8", nil, map[string]func(*testing.T, string){"pnet": pnet(value{name: "in", kind: ort.TensorElementDataTypeUint8, shape: []int64{-1, -1, -1, 3}}, 1, 7, 3)}, []string{"in[?×?×?×3] of uint8", "float32"}},
		{"other cells", nil, map[string]func(*testing.T, string){"pnet": pnet(float32s("in", -1, -1, -1, 3), 1, 3, 7)}, []string{"for an input of [1×24×16×3], its output", "[1×3×7×", "instead of [1×7×3×"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			for _, name := range []string{"pnet", "rnet", "onet"} {
				path := filepath.Join(folder, name+".onnx")
				if write := c.made[name]; write != nil {
					write(t, path)
					continue
				}
				from, ok := c.files[name]
				if !ok {
					from = name
				}
				if from == "" {
					continue
				}
				if err := os.Symlink(filepath.Join(shelf, from+".onnx"), path); err != nil {
					t.Fatal(err)
				}
			}
			_, err := open(t, folder)
			if c.words == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			rejected(t, err, append(c.words, folder)...)
		})
	}
}

// TestMTCNNVersion checks that the version depends on the three files.
func TestMTCNNVersion(t *testing.T) {
	shelf := enginetest.Model(t, "mtcnn")
	version := func(folder string) string {
		t.Helper()
		d, err := open(t, folder)
		if err != nil {
			t.Fatal(err)
		}
		return d.Info().Version
	}
	const codeVersion = "+5"
	want := version(shelf)
	if !strings.HasSuffix(want, codeVersion) || len(want) != 12+len(codeVersion) {
		t.Errorf("%q is not a hash and the code's version", want)
	}
	for changed := -1; changed < len(mtcnn.Files); changed++ {
		folder := t.TempDir()
		for i, name := range mtcnn.Files {
			b, err := os.ReadFile(filepath.Join(shelf, name))
			if err != nil {
				t.Fatal(err)
			}
			if i == changed {
				// Texts in a graph or a model do not change any face.
				b = append(b, protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), []byte("retrained"))...)
			}
			if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := version(folder); (got == want) != (changed < 0) {
			t.Errorf("with file %d changed: %s, and %s as it was", changed, got, want)
		}
	}
}

// rejected fails the test unless err is not nil and contains all of these words.
func rejected(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range words {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not have %q", err, want)
		}
	}
}
