package grid

import (
	"testing"

	"github.com/mienproject/mien/face/facetest"
)

func TestReduced(t *testing.T) {
	for _, name := range []string{"yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx", "scrfd_2.5g_kps_640.onnx"} {
		t.Run(name, func(t *testing.T) { facetest.CheckReduced(t, openGrid(t, name)) })
	}
}
