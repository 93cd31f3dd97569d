package mien_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"
)

// exactPackages compute what is in an answer, from decoding to confidence.
var exactPackages = []string{
	"./face", "./face/grid", "./face/grid/resample", "./face/landmark", "./face/luma", "./face/mtcnn", "./face/mtcnn/area", "./face/pigo", "./face/rgba", "./internal/exact", "./nn", "./photo", "./photo/dct",
}

// TestNoFusedProducts checks that the compiler fuses no product with a sum in what makes an
// answer, so that it has the same bits on processors that have such instructions. An explicit
// conversion of the product, float64(x*y) + z, forbids it.
func TestNoFusedProducts(t *testing.T) {
	build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-gcflags=-S"}, exactPackages...)...)
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	instruction := regexp.MustCompile(`\(([^()]*\.go:\d+)\)\t(?:FN?M(?:ADD|SUB)[SD])\t`)
	if !regexp.MustCompile(`\tFMUL[SD]\t`).Match(out) {
		t.Fatal("the compiler has shown no instructions")
	}
	var places []string
	for _, found := range instruction.FindAllSubmatch(out, -1) {
		places = append(places, string(found[1]))
	}
	slices.Sort(places)
	for _, place := range slices.Compact(places) {
		t.Errorf("%s: a product is fused with a sum", place)
	}
}
