//go:build cgo

package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/mienproject/mien/face"
)

// Available returns nil where this binary can run ONNX models, and ErrUnavailable
// elsewhere.
func Available() error { return nil }

// Open loads the model in path: a file of YuNet or SCRFD, or a folder with MTCNN's
// pnet.onnx, rnet.onnx and onet.onnx. library is the path of ONNX Runtime's shared
// library; a process has one.
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
	if err := load(library); err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openMTCNN(filepath.Join(path, "pnet.onnx"), filepath.Join(path, "rnet.onnx"), filepath.Join(path, "onet.onnx"))
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
	if g.info.Version, err = fileVersion(path); err != nil {
		return nil, err
	}
	return g, nil
}

func newGrid(s *session) (*grid, error) {
	switch {
	case isYuNet(s):
		return newYuNet(s)
	case isSCRFD(s):
		return newSCRFD(s)
	}
	return nil, fmt.Errorf("%w: it has inputs %s and outputs %s; known are YuNet (cls_8 … kps_32), SCRFD with points (three scores, boxes and points) and, as a folder, MTCNN",
		ErrUnknownFamily, shapes(s.inputs), shapes(s.outputs))
}

func shapes(infos []ort.InputOutputInfo) string {
	var b []string
	for _, i := range infos {
		b = append(b, i.Name+i.Dimensions.String())
	}
	return strings.Join(b, ", ")
}

// codeVersion changes whenever this package makes other faces of the same
// network's outputs.
const codeVersion = "+2"

// fileVersion is a model's version: the start of its files' hash.
func fileVersion(paths ...string) (string, error) {
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
	return hex.EncodeToString(hash.Sum(nil)[:6]) + codeVersion, nil
}
