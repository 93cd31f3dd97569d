//go:build cgo

package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/mienproject/mien/face"
)

// Available returns nil where this binary can run ONNX models, and ErrUnavailable
// elsewhere.
func Available() error { return nil }

// Open loads the model in path: a file of YuNet or SCRFD, or a folder with MTCNN's
// pnet.onnx, rnet.onnx and onet.onnx. library is the path of ONNX Runtime's shared
// library; a process has one. Each network is run once: what this package cannot
// feed or read is refused.
//
// Calls beside each other run on one core each. A call that is alone in the
// process has its network, unless that is MTCNN, on as many cores as threads
// says: the same faces, sooner. A call stops in the middle of a network when its
// context ends.
func Open(path, library string, threads int) (face.Detector, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var pnet, rnet, onet string
	if info.IsDir() {
		if pnet, rnet, onet, err = mtcnnPaths(path); err != nil {
			return nil, err
		}
	}
	if err := load(library); err != nil {
		return nil, err
	}
	if info.IsDir() {
		d, err := openMTCNN(pnet, rnet, onet)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	version, err := fileVersion(gridVersion, path)
	if err != nil {
		return nil, err
	}
	s, err := openSession(path, threads)
	if err != nil {
		return nil, err
	}
	g, err := newGrid(s)
	if err != nil {
		_ = s.close() // it only frees
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g.info.Version = version
	return g, nil
}

func newGrid(s *session) (*grid, error) {
	open, family := newYuNet, "YuNet"
	switch {
	case isYuNet(s):
	case isSCRFD(s):
		open, family = newSCRFD, "SCRFD"
	default:
		return nil, fmt.Errorf("%w: it has inputs %s and outputs %s; known are YuNet (cls_8 … kps_32), SCRFD with points (three scores, boxes and points) and, as a folder, MTCNN",
			ErrUnknownFamily, describe(s.inputs...), describe(s.outputs...))
	}
	g, err := open(s)
	if err == nil {
		err = g.try()
	}
	if err != nil {
		return nil, fmt.Errorf("it looks like %s: %w", family, err)
	}
	return g, nil
}

// describe tells names, shapes and, where they are not those of nearly all, types.
func describe(infos ...ort.InputOutputInfo) string {
	var b []string
	for _, i := range infos {
		switch {
		case i.OrtValueType != ort.ONNXTypeTensor:
			b = append(b, i.String())
		case i.DataType != ort.TensorElementDataTypeFloat:
			kind := strings.ToLower(strings.TrimPrefix(i.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
			b = append(b, i.Name+sides(i.Dimensions)+" of "+kind)
		default:
			b = append(b, i.Name+sides(i.Dimensions))
		}
	}
	return strings.Join(b, ", ")
}

// sides writes a shape; a question mark is any size.
func sides(s ort.Shape) string {
	var b []string
	for _, n := range s {
		if n < 0 {
			b = append(b, "?")
		} else {
			b = append(b, strconv.FormatInt(n, 10))
		}
	}
	return "[" + strings.Join(b, "×") + "]"
}

// gridVersion changes whenever this package makes other faces of the same
// outputs of a grid's network.
const gridVersion = "+4"

// fileVersion is a model's version: the start of its files' hash, and that of the
// code.
func fileVersion(code string, paths ...string) (string, error) {
	hash := sha256.New()
	for _, path := range paths {
		file, err := os.Open(filepath.Clean(path))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(hash, file)
		_ = file.Close() // it was only read
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:6]) + code, nil
}
