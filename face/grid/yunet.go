package grid

import (
	"fmt"
	"math"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/internal/exact"
)

// IsYuNet reports whether the network is a YuNet, by the names of its outputs.
func IsYuNet(e engine.Engine) bool {
	return len(e.Inputs()) == 1 && len(e.Outputs()) == 4*len(strides) && engine.OutputIndex(e, "cls_8") >= 0 && engine.OutputIndex(e, "kps_32") >= 0
}

// NewYuNet returns a detector for a network of Wu et al., "YuNet: A Tiny
// Millisecond-level Face Detector" (2023), trained by libfacedetection.train. Its input
// is blue, green, red from 0 to 255. For each stride S it has the outputs cls_S and
// obj_S, whose geometric mean is the score; bbox_S, a center relative to the cell and
// the logarithms of the size; and kps_S, five points relative to the cell; all in
// strides.
func NewYuNet(e engine.Engine, version string) (*Detector, error) {
	size, err := fixedSize(e)
	if err != nil {
		return nil, err
	}
	kinds := []struct {
		name   string
		values int64
	}{{"cls", 1}, {"obj", 1}, {"bbox", 4}, {"kps", 10}}
	var heads [len(strides)][4]int
	for i, stride := range strides {
		for k, kind := range kinds {
			name := fmt.Sprintf("%s_%d", kind.name, stride)
			if heads[i][k] = engine.OutputIndex(e, name); heads[i][k] < 0 {
				return nil, fmt.Errorf("the output %s is missing; its outputs are %s", name, engine.Describe(e.Outputs()))
			}
		}
	}
	landmarker, err := landmark.New()
	if err != nil {
		return nil, err
	}
	return checked(&Detector{
		engine: e,
		info: face.Info{
			Family: "yunet", Version: version + codeVersion, Landmarks: true, InputSize: size,
			MinConfidence: yunetMinConfidence, MinFaceSize: smallestSeen, MaxIoU: suppressIoU,
		},
		maxEnlarged: fineSide,
		order:       [3]int{0, 1, 2},
		landmarker:  landmarker,
		confidence:  func(raw float64) float64 { return logistic(raw, yunetIntercept, yunetSlope) },
		outputs: func(cells [len(strides)]int64) []engine.Shape {
			shapes := make([]engine.Shape, len(e.Outputs()))
			for i := range strides {
				for k, kind := range kinds {
					shapes[heads[i][k]] = engine.Shape{1, cells[i], kind.values}
				}
			}
			return shapes
		},
		faces: func(outputs []engine.Tensor, cols [len(strides)]int, yield func(detection) error) error {
			for i, stride := range strides {
				cls, obj := outputs[heads[i][0]].Data, outputs[heads[i][1]].Data
				boxes, points := outputs[heads[i][2]].Data, outputs[heads[i][3]].Data
				for c := range cls {
					if !engine.Finite(cls[c], obj[c]) {
						return engine.ErrNotFinite
					}
					product := min(max(cls[c], 0), 1) * min(max(obj[c], 0), 1)
					if product < minRaw*minRaw {
						continue
					}
					f := yunetFace(float64(stride), c%cols[i], c/cols[i], math.Sqrt(float64(product)), boxes[4*c:][:4], points[10*c:][:10])
					if err := yield(f); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}

func yunetFace(stride float64, col, row int, score float64, box, points []float32) detection {
	x, y := float64((float64(col)+float64(box[0]))*stride), float64((float64(row)+float64(box[1]))*stride)
	w, h := float64(exact.Exp(float64(box[2]))*stride/2), float64(exact.Exp(float64(box[3]))*stride/2)
	at := func(i int) face.Point {
		return face.Point{X: (float64(col) + float64(points[2*i])) * stride, Y: (float64(row) + float64(points[2*i+1])) * stride}
	}
	return detection{
		raw:       score,
		box:       face.Box{MinX: x - w, MinY: y - h, MaxX: x + w, MaxY: y + h},
		landmarks: face.Landmarks{LeftEye: at(0), RightEye: at(1), Nose: at(2), MouthLeft: at(3), MouthRight: at(4)},
	}
}
