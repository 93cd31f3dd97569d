package service

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	inference "github.com/mienproject/mien/gen/inference"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// The tensors of the Open Inference Protocol, which are the same for every model. Boxes,
// landmarks and scores have the faces of all images, image by image; counts says how many
// each image has.
const (
	inputName       = "image"
	boxesName       = "boxes"
	landmarksName   = "landmarks"
	scoresName      = "scores"
	countsName      = "counts"
	typeBytes       = "BYTES"
	typeFP32        = "FP32"
	typeINT32       = "INT32"
	landmarksOfFace = 5
	// modelVersion is the only version of each model.
	modelVersion = "1"
	// binaryOutputParameter is a parameter of requests of plain HTTP, and
	// truncatedParameter one of answers.
	binaryOutputParameter = "binary_data_output"
	truncatedParameter    = "truncated"
)

// A tensorInfo describes a tensor. -1 in its shape stands for any size.
type tensorInfo struct {
	name, datatype string
	shape          []int64
	config         inference.DataType
}

var (
	inputInfo   = tensorInfo{inputName, typeBytes, []int64{-1}, inference.DataType_TYPE_STRING}
	outputInfos = []tensorInfo{
		{boxesName, typeFP32, []int64{-1, 4}, inference.DataType_TYPE_FP32},
		{landmarksName, typeFP32, []int64{-1, landmarksOfFace, 2}, inference.DataType_TYPE_FP32},
		{scoresName, typeFP32, []int64{-1}, inference.DataType_TYPE_FP32},
		{countsName, typeINT32, []int64{-1}, inference.DataType_TYPE_INT32},
	}
)

// An inferRequest is a request of the Open Inference Protocol, by whichever door it came.
type inferRequest struct {
	model, version, id string
	// parameters are the texts of the options.
	parameters map[string]string
	images     [][]byte
	// outputs are the names of the outputs of the answer, in its order.
	outputs []string
}

// input is an input as the client describes it.
type input struct {
	name, datatype string
	shape          []int64
}

// checkInputs returns an error unless the inputs of a request are the one that models have.
func checkInputs(inputs []input) error {
	for _, in := range inputs {
		if in.name != inputName {
			return fmt.Errorf("%w: the input %q is unknown; the only input is %q", errTensor, excerpt(in.name), inputName)
		}
	}
	if len(inputs) != 1 {
		return fmt.Errorf("%w: the request has %d inputs; send one, %q", errTensor, len(inputs), inputName)
	}
	if in := inputs[0]; in.datatype != typeBytes {
		return fmt.Errorf("%w: the input %q has datatype %q; it must be %q, with an image file in each element", errTensor, inputName, excerpt(in.datatype), typeBytes)
	}
	return nil
}

// checkShape returns an error unless in has the shape of that many elements, and not too many.
func (in input) checkShape(elements int) error {
	if elements > maxItems {
		return fmt.Errorf("%w: at most %d are allowed in the input %q", errTooManyItems, maxItems, inputName)
	}
	s := in.shape
	if (len(s) != 1 && len(s) != 2) || (len(s) == 2 && s[1] != 1) {
		return fmt.Errorf("%w: the input %q has shape %v; it must be [N] or [N, 1] for N images", errTensor, inputName, s[:min(len(s), 10)])
	}
	if s[0] != int64(elements) || elements == 0 {
		return fmt.Errorf("%w: the input %q has shape %v and %d elements; it must have one element for each image, and at least one", errTensor, inputName, s, elements)
	}
	return nil
}

// splitElements returns the elements of BYTES in raw form, each of which comes after its
// length. They are parts of raw. It stops above limit.
func splitElements(raw []byte, limit int) (elements [][]byte, err error) {
	for rest := raw; len(rest) > 0 && len(elements) <= limit; {
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.LittleEndian.Uint32(rest)) {
			return nil, fmt.Errorf("%w: the input %q ends in the middle of element %d; each element must come after its length as 4 little-endian bytes", errTensor, inputName, len(elements))
		}
		size := binary.LittleEndian.Uint32(rest)
		elements = append(elements, rest[4:4+size:4+size])
		rest = rest[4+size:]
	}
	return elements, nil
}

// checkOutputs returns the names of the outputs of the answer: those that were asked for,
// or all.
func checkOutputs(asked []string) ([]string, error) {
	var all []string
	for _, info := range outputInfos {
		all = append(all, info.name)
	}
	if len(asked) == 0 {
		return all, nil
	}
	for i, name := range asked {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%w: the output %q is unknown; the outputs are %q", errTensor, excerpt(name), all)
		}
		if slices.Contains(asked[:i], name) {
			return nil, fmt.Errorf("%w: the output %q is requested twice", errTensor, name)
		}
	}
	return asked, nil
}

// isOption reports whether a parameter of that name is an option. Models are named by a
// field, not by a parameter.
func isOption(name string) bool {
	_, known := optionsInto(&inferencev1.DetectOptions{})[name]
	return known && name != "model"
}

// ignoredParameters adds the parameters that have no effect to f, except those that
// clients send by themselves.
func ignoredParameters(f *ignoredFields, names []string) {
	slices.Sort(names)
	for _, name := range names {
		if !isOption(name) && !strings.HasPrefix(name, "triton_") && name != binaryOutputParameter {
			f.add("parameters.", name)
		}
	}
}

// messages returns the images of the request as the RPCs of inference.v1 have them.
func (q *inferRequest) messages(p *procedure) ([]*inferencev1.Image, error) {
	if q.version != "" && q.version != modelVersion {
		return nil, wrongVersion(q.version)
	}
	opts := &inferencev1.DetectOptions{}
	set := optionsInto(opts)
	for name, text := range q.parameters {
		if !isOption(name) {
			continue
		}
		if err := set[name].set(p.optionName(name), text); err != nil {
			return nil, err
		}
	}
	opts.Model = q.model
	if !slices.Contains(q.outputs, landmarksName) {
		opts.SkipLandmarks = true
	}
	var images []*inferencev1.Image
	for _, data := range q.images {
		images = append(images, &inferencev1.Image{RawData: data, Options: opts})
	}
	return images, nil
}

func wrongVersion(version string) error {
	return fmt.Errorf("%w: its version is %q; each model of this server has only the version %q", errUnknownModel, excerpt(version), modelVersion)
}

// A tensor is an output. It has either floats or ints.
type tensor struct {
	tensorInfo

	floats []float32
	ints   []int32
}

// raw returns the elements in little-endian order.
func (t *tensor) raw() []byte {
	out := make([]byte, 0, 4*(len(t.floats)+len(t.ints)))
	for _, f := range t.floats {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
	}
	for _, n := range t.ints {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	return out
}

// tensors returns the outputs that the request asks for, and whether faces may be missing.
// If a face has no landmarks, then none has any.
func (q *inferRequest) tensors(results []*inferencev1.InferResults) (outputs []tensor, truncated bool) {
	all := map[string]*tensor{}
	for _, info := range outputInfos {
		info.shape = slices.Clone(info.shape)
		info.shape[0] = 0
		all[info.name] = &tensor{tensorInfo: info}
	}
	add := func(name string, values ...float32) {
		t := all[name]
		t.shape[0]++
		t.floats = append(t.floats, values...)
	}
	counts := all[countsName]
	for _, res := range results {
		truncated = truncated || res.GetTruncated()
		counts.shape[0]++
		counts.ints = append(counts.ints, int32(len(res.GetResults())))
		for _, face := range res.GetResults() {
			add(boxesName, coordinates(face.GetBox().GetUpLeft(), face.GetBox().GetLowerRight())...)
			add(scoresName, float32(face.GetConfidence()))
			if l := face.GetLandmarks(); l != nil {
				add(landmarksName, coordinates(l.GetLeftEye(), l.GetRightEye(), l.GetNose(), l.GetMouthLeft(), l.GetMouthRight())...)
			}
		}
	}
	for _, name := range q.outputs {
		outputs = append(outputs, *all[name])
	}
	return outputs, truncated
}

// coordinates returns x and y of each point. float32 represents whole numbers up to
// 2^24 exactly.
func coordinates(points ...*inferencev1.Point) []float32 {
	out := make([]float32, 0, 2*len(points))
	for _, p := range points {
		out = append(out, float32(p.GetX()), float32(p.GetY()))
	}
	return out
}
