package mtcnn

import _ "embed" // the networks

// The networks of version 0.1.0 of the Python package mtcnn, MIT licensed; see
// weights/LICENSE. "make mtcnn-weights" makes the files from the package.
var (
	//go:embed weights/pnet.onnx
	pnetWeights []byte
	//go:embed weights/rnet.onnx
	rnetWeights []byte
	//go:embed weights/onet.onnx
	onetWeights []byte
)

// License is the license of the embedded networks.
//
//go:embed weights/LICENSE
var License string

// Weights returns the embedded networks as ONNX files, in the order of Files. They are the
// networks of the Python package mtcnn, to the bit. The caller must not change them.
func Weights() [][]byte { return [][]byte{pnetWeights, rnetWeights, onetWeights} }
