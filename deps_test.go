package mien_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mienproject/mien/"

// mayImport is who may know whom: for each package of this module, the packages
// of it that it may import. A package that is missing here has to be added,
// which is a moment to think.
var mayImport = map[string][]string{
	"cmd/server": {"auth", "cores", "engine", "face", "face/networks", "face/pigo", "gen/inference/v1", "gen/inference/v1/inferencev1connect", "gen/inference/inferenceconnect", "internal/version", "modelstore", "nn", "onnx", "reason", "service", "web"},
	"cmd/client": {"annotate", "client", "face", "gen/inference/v1", "internal/version", "photo"},
	"client":     {"gen/inference/v1", "gen/inference/v1/inferencev1connect", "reason"},
	"service":    {"admission", "annotate", "cores", "face", "internal/freelist", "photo", "reason", "gen/inference", "gen/inference/inferenceconnect", "gen/inference/v1", "gen/inference/v1/inferencev1connect"},
	"admission":  {},
	"auth":       {},
	"annotate":   {"face"},
	"modelstore": {},
	"reason":     {},
	"web":        {},
	"photo":      {"photo/dct"},
	"photo/dct":  {},

	"face":          {},
	"face/luma":     {"internal/freelist"},
	"face/rgba":     {"internal/freelist"},
	"face/landmark": {"face", "face/luma", "internal/exact"},
	"face/pigo":     {"cores", "face", "face/landmark", "face/luma", "internal/exact", "internal/freelist"},
	"face/grid":     {"engine", "face", "face/grid/resample", "face/landmark", "face/luma", "face/rgba", "internal/exact", "internal/freelist"},
	"face/mtcnn":    {"cores", "engine", "face", "face/mtcnn/area", "face/rgba", "internal/freelist"},
	"face/networks": {"cores", "engine", "face", "face/grid", "face/mtcnn"},
	// They scale pixels for the networks, and know nothing of them.
	"face/grid/resample": {"internal/freelist"},
	"face/mtcnn/area":    {},
	// Engines know no face.
	"engine": {"internal/freelist"},
	"nn":     {"cores", "engine", "internal/exact", "internal/freelist", "nn/onnxfile"},
	"onnx":   {"cores", "engine"},
	"cores":  {},
	// It reads files, and runs nothing.
	"nn/onnxfile": {},

	"engine/enginetest":                   {"engine", "onnx"},
	"face/facetest":                       {"face", "internal/freelist"},
	"internal/arm64test":                  {},
	"internal/embed":                      {"modelstore"},
	"internal/exact":                      {},
	"internal/freelist":                   {},
	"internal/licenses":                   {},
	"internal/terminaltest":               {},
	"internal/version":                    {},
	"gen/inference":                       {},
	"gen/inference/inferenceconnect":      {"gen/inference"},
	"gen/inference/v1":                    {},
	"gen/inference/v1/inferencev1connect": {"gen/inference/v1"},
}

// mayNotDepend is what a package keeps out of its dependencies, however far down.
var mayNotDepend = map[string][]string{
	"face":          {"connectrpc.com/", "google.golang.org/protobuf", "net/http"},
	"engine":        {"connectrpc.com/", "google.golang.org/protobuf", "net/http"},
	"nn":            {"connectrpc.com/", "google.golang.org/protobuf/proto", "google.golang.org/protobuf/reflect", "net/http", "runtime/cgo"},
	"onnx":          {"connectrpc.com/", "google.golang.org/protobuf", "net/http"},
	"nn/onnxfile":   {"connectrpc.com/", "google.golang.org/protobuf/proto", "google.golang.org/protobuf/reflect", "net/http"},
	"face/networks": {"connectrpc.com/", "google.golang.org/protobuf", "net/http", "github.com/yalue/onnxruntime_go", "runtime/cgo"},
	"face/pigo":     {"connectrpc.com/", "google.golang.org/protobuf", "net/http"},
	"photo":         {"connectrpc.com/", "google.golang.org/protobuf", "net/http"},
	"service":       {"github.com/alecthomas/kong", "flag", "github.com/rs/cors", "github.com/prometheus/", "go.opentelemetry.io/"},
	"client":        {"github.com/prometheus/", "go.opentelemetry.io/"},
	"web":           {"connectrpc.com/", "google.golang.org/protobuf"},
	"cmd/server":    testHelpers,
	"cmd/client":    testHelpers,
	// It is the boundary to strangers, and knows no image and no exporter.
	"auth":      {"image", "github.com/prometheus/", "github.com/alecthomas/kong", "go.opentelemetry.io/"},
	"admission": {"github.com/", "golang.org/", "google.golang.org/", "connectrpc.com/", "go.opentelemetry.io/", "net/http"},
}

// testHelpers are linked into no product.
var testHelpers = []string{"testing", module + "engine/enginetest", module + "face/facetest", module + "internal/arm64test"}

func TestDependencies(t *testing.T) {
	seen := map[string]bool{}
	for name, imports := range list(t, "{{.ImportPath}}: {{join .Imports \" \"}}") {
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s is not in mayImport", name)
		}
		seen[name] = true
		for _, path := range imports {
			if local, ok := strings.CutPrefix(path, module); ok && !slices.Contains(allowed, local) {
				t.Errorf("%s imports %s", name, local)
			}
		}
	}
	for name := range mayImport {
		if !seen[name] {
			t.Errorf("%s is in mayImport and does not exist", name)
		}
	}
	for name, deps := range list(t, "{{.ImportPath}}: {{join .Deps \" \"}}") {
		for _, banned := range mayNotDepend[name] {
			for _, path := range deps {
				if path == banned || (strings.Contains(banned, ".") && strings.HasPrefix(path, banned)) {
					t.Errorf("%s depends on %s", name, path)
				}
			}
		}
	}
}

// list asks the go command about every package, tests aside.
func list(t *testing.T, format string) map[string][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", format, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string][]string{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, values, _ := strings.Cut(lines.Text(), ": ")
		if name, ok := strings.CutPrefix(name, module); ok {
			packages[name] = strings.Fields(values)
		}
	}
	return packages
}
