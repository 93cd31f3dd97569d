package main

import (
	"image/color"

	"github.com/mienproject/mien/bench/page"
)

// A peer is a server to measure.
type peer struct {
	name  string
	title string // in the report, in Markdown
	// sees says what it looks at, at which size and from which confidence on.
	sees string
	// confidence is the lowest one of a face that it returns by default, and scores is
	// what it is started with to return nearly all of them, in MIN_SCORE; empty if it has
	// no such setting.
	confidence, scores string
	// folder has its program, below servers/, and its environment below .bin/peers. An empty
	// one means Mien.
	folder string
	// command starts it, with the variables of the environment; nil for what is built.
	command []string
	// model and file are the model of Mien: file is empty for those that are built in.
	model, file string
	yunet       bool // it reads the file of YuNet
	doors       []door
	// In the plot, which knows no Markdown: its color and name, which stands to the right of
	// its dot unless left is set, and a number of lines above, so that none is on another.
	color color.Color
	label string
	left  bool
	up    float64
}

// A door is one way to ask a peer: a protocol of package calls, and a path.
type door struct{ name, protocol, path string }

// The doors that several peers have.
var (
	oldGRPC  = door{"gRPC", "oldgrpc", ""}
	file     = []door{{"HTTP", "file", "/predict"}}
	mienDoor = []door{{"gRPC", "grpc", ""}, {"HTTP", "predict", ""}}
	uvicorn  = []string{"sh", "-c", `PYTHONPATH=../web exec uvicorn server:app --host 127.0.0.1 --port "$PORT" --workers "$CORES" --no-access-log`}
)

const yunetFile = "yunet_n_dynamic.onnx"

// Mien's models that the bars are about, and what they are compared with.
const (
	bare     = "mien"
	mienOf   = "mien-"
	replaced = "replaced"
)

// peers are all peers, in the order of a round.
var peers = []peer{
	{
		name: replaced, title: "replaced: gRPC", folder: replaced,
		sees:       "MTCNN (`mtcnn` 0.1.1, TensorFlow 2.15.1): a pyramid of the whole image, faces from 20 pixels on",
		confidence: "0.7", command: []string{"python", "server.py"}, doors: []door{oldGRPC}, color: page.Orange, label: "replaced", up: 1.2,
	},
	{
		name: "replaced-3", title: "replaced: gRPC, three processes", folder: replaced,
		sees:       "the same, in three processes that share the port",
		confidence: "0.7", command: []string{"sh", "-c", "PROCESSES=3 exec python server.py"}, doors: []door{oldGRPC}, color: page.Orange, label: "replaced ×3", up: -1.2,
	},
	{
		name: "replaced-front", title: "replaced: Flask before three processes", folder: replaced,
		sees:       "the same, behind Flask and gunicorn, with the image as base64 in JSON",
		confidence: "0.7", command: []string{"python", "stack.py"}, doors: []door{{"HTTP", "flask", "/predict"}}, color: page.Orange, label: "replaced ×3, Flask", up: -2.4,
	},
	{
		name: "opencv", title: "OpenCV 5.0, FastAPI", folder: "opencv",
		sees:       "YuNet-n by `FaceDetectorYN`, once at the size of the image",
		confidence: "0.9", scores: "0.02", command: uvicorn, yunet: true, doors: file, color: page.Blue, label: "OpenCV",
	},
	{
		name: "bentoml", title: "BentoML 1.4, ONNX Runtime", folder: "bentoml",
		sees:       "YuNet-n, once at the size of the image",
		confidence: "0.9", scores: "0.02", yunet: true, doors: file, color: page.Blue, label: "BentoML", up: -1.2,
		command: []string{"sh", "-c", `PYTHONPATH=../yunet BENTOML_DO_NOT_TRACK=true exec bentoml serve server:Faces --host 127.0.0.1 --port "$PORT"`},
	},
	{
		name: "litserve", title: "LitServe 0.2, ONNX Runtime", folder: "litserve",
		sees:       "YuNet-n, once at the size of the image",
		confidence: "0.9", scores: "0.02", yunet: true, doors: []door{{"HTTP", "form", "/predict"}}, color: page.Blue, label: "LitServe", up: -2.4,
		command: []string{"sh", "-c", "PYTHONPATH=../yunet exec python server.py"},
	},
	{
		name: "mediapipe", title: "MediaPipe 0.10, FastAPI", folder: "mediapipe",
		sees:       "BlazeFace (full range), once at 192×192 pixels",
		confidence: "0.5", scores: "0.02", command: uvicorn, doors: file, color: page.Green, label: "MediaPipe",
	},
	{
		name: "dlib", title: "dlib 20, FastAPI", folder: "dlib",
		sees:       "HOG on a pyramid from twice the size of the image on, faces of about 40 pixels of the image or more",
		confidence: "0", scores: "-1", command: uvicorn, doors: file, color: page.Purple, label: "dlib",
	},
	{
		name: "pigo-server", title: "pigo 1.4, `net/http`", folder: "pigo",
		sees:       "pigo's cascade, faces of 20 to 1000 pixels",
		confidence: "5", scores: "0", doors: file, color: page.Purple, label: "pigo",
	},
	{
		name: bare, title: "**Mien**, bare start (`mtcnn`)", model: "mtcnn",
		sees:       "MTCNN: the pyramid of the replaced system, faces from 20 pixels on",
		confidence: "0.7", doors: mienDoor, color: page.Orange, label: "Mien mtcnn",
	},
	{
		name: mienOf + "yunet", title: "**Mien**, `yunet`", model: "yunet", file: yunetFile,
		sees:       "YuNet-n in three passes: at 256 and 640 pixels, and at 1128 where those have hints",
		confidence: "0.86", doors: mienDoor, color: page.Blue, label: "Mien yunet", up: .6,
	},
	{
		name: mienOf + "yunet-s", title: "**Mien**, `yunet-s`", model: "yunet-s", file: "yunet_s_dynamic.onnx",
		sees:       "YuNet-s in the same passes",
		confidence: "0.86", doors: mienDoor, color: page.Blue, label: "Mien yunet-s", left: true,
	},
	{
		name: mienOf + "pigo", title: "**Mien**, `pigo`", model: "pigo",
		sees:       "pigo's cascade, faces from 20 pixels on",
		confidence: "0.4", doors: mienDoor, color: page.Purple, label: "Mien pigo",
	},
}
