package grid

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"image"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

var updateYuNet = flag.Bool("update-yunet", false, "write testdata/yunet_golden.jsonl anew; needs a Python (MIEN_PYTHON, or python3) with numpy, onnxruntime and Pillow")

// yunetPhotos are crowds and single faces of 6 to 640 pixels; upright and wide, small
// and large images; JPEGs with every chroma subsampling, progressive JPEGs, and PNGs
// with a palette and with transparency; and some images without faces.
var yunetPhotos = []string{
	"wider_val_orig/images/0_Parade_marchingband_1_1004.jpg",
	"wider_val_orig/images/0_Parade_marchingband_1_20.jpg",
	"wider_val_orig/images/0_Parade_marchingband_1_353.jpg",
	"wider_val_orig/images/0_Parade_marchingband_1_465.jpg",
	"wider_val_orig/images/6_Funeral_Funeral_6_483.jpg",
	"wider_val_416/images/0_Parade_Parade_0_137.jpg",
	"wider_val_416/images/0_Parade_Parade_0_194.jpg",
	"wider_val_416/images/1_Handshaking_Handshaking_1_158.jpg",
	"wider_val_416/images/2_Demonstration_Demonstration_Or_Protest_2_58.jpg",
	"lfw_5pt/images/Agnes_Bruckner_0001.jpg",
	"lfw_5pt/images/Alfredo_di_Stefano_0001.jpg",
	"net_5pt/images/1062_0_0.jpg",
	"net_5pt/images/1069_0_0.jpg",
	"face_mask/images/45-photo.jpg",
	"face_mask/images/maksssksksss211.png",
	"dlib_faces/images/2008_002470.jpg",
	"mmpose_landmarks/images/300w_indoor_020.png",
	"negatives/images/dlib_horses.jpg",
	"negatives/images/dlib_dogs.jpg",
	"peoples.jpg",
}

// yunetGolden is the output of testdata/yunet_reference.py for one network. Its first
// line names the network.
type yunetGolden struct {
	Network, SHA256 string
	photos          []yunetGoldenPhoto
}

type yunetGoldenPhoto struct {
	File string
	// Boxes, raw scores and points, each as x before y.
	Faces [][15]float64
}

// TestYuNetGolden compares the networks' own boxes and points, before landmark cascades
// refine them, with an independent run of the same networks on the same pixels, as the
// standard library decodes them. A difference of a third of a gray level moves boxes of
// YuNet by pixels.
func TestYuNetGolden(t *testing.T) {
	const path = "testdata/yunet_golden.jsonl"
	networks := []struct {
		name  string
		faces int // minimum number of faces to compare
	}{
		{"yunet_n_dynamic.onnx", 305},
		{"face_detection_yunet_2023mar.onnx", 160},
	}
	if *updateYuNet {
		var lines []byte
		for _, n := range networks {
			lines = append(lines, runYuNetReference(t, n.name)...)
		}
		if err := os.WriteFile(path, lines, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden := readYuNetGolden(t, path)
	if len(golden) != len(networks) {
		t.Fatalf("%s has %d networks, want %d", path, len(golden), len(networks))
	}
	for i, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			g := openGrid(t, n.name)
			g.landmarker = nil
			g.confidence = func(raw float64) float64 { return raw }
			weights, err := os.ReadFile(enginetest.Model(t, n.name))
			if err != nil {
				t.Fatal(err)
			}
			digest := sha256.Sum256(weights)
			if want := golden[i]; want.Network != n.name || want.SHA256 != hex.EncodeToString(digest[:]) {
				t.Fatalf("%s is of %s, %s: run with -update-yunet", path, want.Network, want.SHA256)
			}
			if len(golden[i].photos) != len(yunetPhotos) {
				t.Fatalf("%s has %d photographs, want %d", path, len(golden[i].photos), len(yunetPhotos))
			}
			all := yunetAgreement{iou: 1}
			for k, want := range golden[i].photos {
				if want.File != yunetPhotos[k] {
					t.Fatalf("%s has %s, want %s", path, want.File, yunetPhotos[k])
				}
				img := facetest.Decode(t, facetest.Path(t, want.File))
				got, err := g.Detect(t.Context(), img, face.Options{})
				if err != nil {
					t.Fatal(err)
				}
				all.compare(t, want, got, img.Bounds().Dx(), img.Bounds().Dy())
			}
			t.Logf("%d faces on %d photographs, %d with another box: least IoU %.4f, points at most %.4f pixels apart, raw scores %.5f",
				all.faces, len(yunetPhotos), all.others, all.iou, all.points, all.score)
			if all.others > 1 {
				t.Errorf("%d faces have another box, want at most one", all.others)
			}
			if all.faces < n.faces {
				t.Errorf("%d faces to compare, want at least %d", all.faces, n.faces)
			}
		})
	}
}

// yunetAgreement is the number of faces that agree, and the largest differences.
type yunetAgreement struct {
	faces int
	// others are faces for which another box was kept, with nearly the same score.
	others             int
	iou, points, score float64
}

// compare looks up each face of one run in the other. Both runs also have weaker faces
// than those that are compared, so that rounding does not lose any.
func (a *yunetAgreement) compare(t *testing.T, want yunetGoldenPhoto, got []face.Face, width, height int) {
	t.Helper()
	const floor = 0.3 // minimum raw score
	// Scores of package nn differ by some thousandths, so that of two boxes of a face
	// that are nearly as good the other one may be kept.
	const sameBox = .92
	other := func(f, nearest face.Face, iou float64) bool {
		return iou >= .85 && math.Abs(f.Confidence-nearest.Confidence) <= .005
	}
	expected := make([]face.Face, len(want.Faces))
	for i, w := range want.Faces {
		// Its points have (0, 0) at the corner of the first pixel.
		at := func(k int) face.Point { return face.Point{X: w[5+2*k] - 0.5, Y: w[6+2*k] - 0.5} }
		l := clampLandmarks(face.Landmarks{LeftEye: at(0), RightEye: at(1), Nose: at(2), MouthLeft: at(3), MouthRight: at(4)}, width, height)
		expected[i] = face.Face{
			Box:        face.Box{MinX: w[0], MinY: w[1], MaxX: w[2], MaxY: w[3]}.Clamp(width, height),
			Confidence: w[4],
			Landmarks:  l,
		}
	}
	nearest := func(f face.Face, among []face.Face) (best int, iou float64) {
		for i, o := range among {
			if v := face.IoU(f.Box, o.Box); v > iou {
				best, iou = i, v
			}
		}
		return best, iou
	}
	for _, f := range expected {
		if f.Confidence < floor {
			continue
		}
		a.faces++
		i, iou := nearest(f, got)
		if iou < sameBox && other(f, got[i], iou) {
			a.others++
			continue
		}
		a.iou = min(a.iou, iou)
		if iou < sameBox {
			t.Errorf("%s: no face at %.1f, of raw score %.3f: the nearest has an IoU of %.3f", want.File, f.Box, f.Confidence, iou)
			continue
		}
		points := facetest.Points(f.Landmarks)
		for k, p := range facetest.Points(got[i].Landmarks) {
			off := math.Hypot(p.X-points[k].X, p.Y-points[k].Y)
			a.points = max(a.points, off)
			if !(off <= 1) {
				t.Errorf("%s: face at %.1f has point %d at %.2f, want %.2f", want.File, f.Box, k, p, points[k])
			}
		}
		score := math.Abs(got[i].Confidence - f.Confidence)
		a.score = max(a.score, score)
		if !(score <= .02) {
			t.Errorf("%s: face at %.1f has raw score %.3f, want %.3f", want.File, f.Box, got[i].Confidence, f.Confidence)
		}
	}
	for _, f := range got {
		if f.Confidence < floor {
			continue
		}
		if i, iou := nearest(f, expected); iou < sameBox && !other(f, expected[i], iou) {
			t.Errorf("%s: face at %.1f, of raw score %.3f, is ours only", want.File, f.Box, f.Confidence)
		}
	}
}

func readYuNetGolden(t *testing.T, path string) []yunetGolden {
	t.Helper()
	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []yunetGolden
	for in := json.NewDecoder(bytes.NewReader(lines)); in.More(); {
		var line struct {
			yunetGolden
			yunetGoldenPhoto
		}
		if err := in.Decode(&line); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch {
		case line.Network != "":
			all = append(all, line.yunetGolden)
		case len(all) == 0:
			t.Fatalf("%s begins with no network", path)
		default:
			last := &all[len(all)-1]
			last.photos = append(last.photos, line.yunetGoldenPhoto)
		}
	}
	return all
}

// runYuNetReference returns the output of testdata/yunet_reference.py for the
// photographs.
func runYuNetReference(t *testing.T, network string) []byte {
	t.Helper()
	python := os.Getenv("MIEN_PYTHON")
	if python == "" {
		python = "python3"
	}
	planes := t.TempDir()
	for _, name := range yunetPhotos {
		img, ok := facetest.Decode(t, facetest.Path(t, name)).(*image.YCbCr)
		if !ok {
			continue // PNG is lossless
		}
		folder := filepath.Join(planes, filepath.FromSlash(name))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		width, height := img.Rect.Dx(), img.Rect.Dy()
		chroma := image.Rect(0, 0, (width+1)/2, (height+1)/2)
		switch img.SubsampleRatio {
		case image.YCbCrSubsampleRatio420:
		case image.YCbCrSubsampleRatio422:
			chroma.Max.Y = height
		case image.YCbCrSubsampleRatio440:
			chroma.Max.X = width
		case image.YCbCrSubsampleRatio444:
			chroma.Max = image.Pt(width, height)
		default:
			t.Fatalf("%s: %v", name, img.SubsampleRatio)
		}
		for i, plane := range []*image.Gray{
			{Pix: img.Y, Stride: img.YStride, Rect: image.Rect(0, 0, width, height)},
			{Pix: img.Cb, Stride: img.CStride, Rect: chroma},
			{Pix: img.Cr, Stride: img.CStride, Rect: chroma},
		} {
			var b bytes.Buffer
			if err := png.Encode(&b, plane); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(i)+".png"), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	command := exec.Command(python, append([]string{
		"testdata/yunet_reference.py", "--planes", planes, enginetest.Model(t, network), facetest.Path(t),
	}, yunetPhotos...)...)
	command.Stderr = os.Stderr
	lines, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
