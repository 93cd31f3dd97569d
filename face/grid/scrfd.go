package grid

import (
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
)

// scrfdAnchors is the number of candidates in each cell.
const scrfdAnchors = 2

// IsSCRFD reports whether the network is an SCRFD, by the number and the sizes of its
// outputs: scores, boxes and points for each of three strides.
func IsSCRFD(e engine.Engine) bool {
	if len(e.Inputs()) != 1 || len(e.Outputs()) != 3*len(strides) {
		return false
	}
	for i, values := range []int64{1, 4, 10} {
		for k := range strides {
			d := e.Outputs()[i*len(strides)+k].Shape
			if len(d) == 0 || d[len(d)-1] != values {
				return false
			}
		}
	}
	return true
}

// NewSCRFD returns a detector for a network of Guo et al., "Sample and Computation
// Redistribution for Efficient Face Detection" (2021), with points. Its input is red,
// green, blue as (v-127.5)/128. A box is the distances from the corner of the cell to
// its four sides, and a point is an offset from that corner, all in strides.
func NewSCRFD(e engine.Engine, version string) (*Detector, error) {
	size, err := fixedSize(e)
	if err != nil {
		return nil, err
	}
	return checked(&Detector{
		engine: e,
		info: face.Info{
			Family: "scrfd", Version: version + codeVersion, Landmarks: true, InputSize: size,
			MinConfidence: scrfdMinConfidence, MinFaceSize: smallestSeen, MaxIoU: suppressIoU,
		},
		maxEnlarged: coarseSide,
		order:       [3]int{2, 1, 0},
		confidence:  func(raw float64) float64 { return logistic(raw, scrfdIntercept, scrfdSlope) },
		normalize: func(data []float32) {
			for i, v := range data {
				data[i] = (v - 127.5) / 128
			}
		},
		outputs: func(cells [len(strides)]int64) []engine.Shape {
			shapes := make([]engine.Shape, 0, len(e.Outputs()))
			for at, values := range []int64{1, 4, 10} {
				for k := range strides {
					shape := engine.Shape{scrfdAnchors * cells[k], values}
					if len(e.Outputs()[at*len(strides)+k].Shape) == 3 {
						shape = append(engine.Shape{1}, shape...)
					}
					shapes = append(shapes, shape)
				}
			}
			return shapes
		},
		faces: func(outputs []engine.Tensor, cols [len(strides)]int, yield func(detection) error) error {
			for i, stride := range strides {
				scores := outputs[i].Data
				boxes, points := outputs[len(strides)+i].Data, outputs[2*len(strides)+i].Data
				for c, score := range scores {
					if !engine.Finite(score) {
						return engine.ErrNotFinite
					}
					if score < minRaw {
						continue
					}
					cell := c / scrfdAnchors
					s, x, y := float64(stride), float64(cell%cols[i]*stride), float64(cell/cols[i]*stride)
					b, p := boxes[4*c:][:4], points[10*c:][:10]
					at := func(k int) face.Point {
						return face.Point{X: x + float64(float64(p[2*k])*s), Y: y + float64(float64(p[2*k+1])*s)}
					}
					err := yield(detection{
						raw: float64(score),
						box: face.Box{
							MinX: x - float64(float64(b[0])*s), MinY: y - float64(float64(b[1])*s),
							MaxX: x + float64(float64(b[2])*s), MaxY: y + float64(float64(b[3])*s),
						},
						landmarks: face.Landmarks{LeftEye: at(0), RightEye: at(1), Nose: at(2), MouthLeft: at(3), MouthRight: at(4)},
					})
					if err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}
