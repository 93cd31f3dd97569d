package cluster

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const patience = 2 * time.Minute

// A descriptor of an OCI index or manifest, as far as the tests need it.
type descriptor struct {
	Digest      string            `json:"digest"`
	Platform    map[string]string `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

type config struct {
	Architecture string    `json:"architecture"`
	Created      time.Time `json:"created"`
	Config       struct {
		User         string
		Entrypoint   []string
		Labels       map[string]string
		ExposedPorts map[string]struct{}
	} `json:"config"`
}

// TestImages checks the archives of "make images" as skopeo reads them: platforms, users,
// labels and sizes, that nothing but the binary and the certificates is in the images from
// scratch, and that those have the same digests when they are built again.
func TestImages(t *testing.T) {
	if *imagesFolder == "" {
		t.Skip("needs -images, which e2e/cluster/run.sh gives")
	}
	both := []string{"amd64", "arm64"}
	scratch := []string{"etc/ssl/certs/ca-certificates.crt"}
	for _, c := range []struct {
		name, binary  string
		architectures []string
		files         []string // all of them, if there are any
		ports         int
		maxBytes      int64 // of the files of an image
	}{
		{"mien", "mien", both, append(scratch, "mien"), 2, 30e6},
		{"mien-yunet", "mien", both, append(scratch, "mien"), 2, 30e6},
		{"mien-client", "mien-client", both, append(scratch, "mien-client"), 0, 20e6},
		{"mien-onnx", "mien", nil, nil, 2, 110e6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			archive := "oci-archive:" + filepath.Join(*imagesFolder, c.name+".tar")
			manifests := decode[struct{ Manifests []descriptor }](t, run(t, patience, "skopeo", "inspect", "--raw", archive)).Manifests
			var architectures []string
			for _, m := range manifests {
				architectures = append(architectures, m.Platform["architecture"])
			}
			if c.architectures != nil && !slices.Equal(architectures, c.architectures) || len(manifests) == 0 {
				t.Errorf("it is for %q, want %q", architectures, c.architectures)
			}
			for _, architecture := range architectures {
				checkPlatform(t, archive, architecture, c.binary, c.files, c.ports, c.maxBytes)
			}
			if again := "oci-archive:" + filepath.Join(*imagesAgain, c.name+".tar"); *imagesAgain != "" && c.files != nil {
				if other := run(t, patience, "skopeo", "inspect", "--raw", again); other != run(t, patience, "skopeo", "inspect", "--raw", archive) {
					t.Errorf("built again, it has other digests: %s", other)
				}
			}
			checkBill(t, filepath.Join(*imagesFolder, c.name+".cdx.json"), c.files == nil)
		})
	}
}

func checkPlatform(t *testing.T, archive, architecture, binary string, want []string, ports int, maxBytes int64) {
	t.Helper()
	choose := "--override-arch=" + architecture
	got := decode[config](t, run(t, patience, "skopeo", choose, "inspect", "--config", "--raw", archive))
	if got.Architecture != architecture || got.Config.User != "65532:65532" || !slices.Equal(got.Config.Entrypoint, []string{"/" + binary}) || len(got.Config.ExposedPorts) != ports {
		t.Errorf("its configuration is %+v", got)
	}
	for _, label := range []string{"title", "description", "version", "created", "source", "licenses"} {
		if got.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("it has no label %s", label)
		}
	}
	folder := t.TempDir()
	run(t, patience, "skopeo", choose, "copy", "--quiet", archive, "dir:"+folder)
	manifest, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]int64{}
	var total int64
	for _, layer := range decode[struct{ Layers []descriptor }](t, string(manifest)).Layers {
		for file, err := range layerFiles(filepath.Join(folder, strings.TrimPrefix(layer.Digest, "sha256:"))) {
			if err != nil {
				t.Fatal(err)
			}
			files[file.Name] = file.Size
			total += file.Size
			if want != nil && !file.ModTime.Equal(got.Created) {
				t.Errorf("%s is of %v, want %v", file.Name, file.ModTime, got.Created)
			}
		}
	}
	t.Logf("%s, %s: %.1f MB", filepath.Base(archive), architecture, float64(total)/1e6)
	if total > maxBytes {
		t.Errorf("%s: its files have %d bytes, want at most %d", architecture, total, maxBytes)
	}
	if names := slices.Sorted(maps.Keys(files)); want != nil && !slices.Equal(names, want) {
		t.Errorf("%s has the files %q, want %q", architecture, names, want)
	}
}

// layerFiles are the headers of all entries of a layer.
func layerFiles(path string) iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		file, err := os.Open(filepath.Clean(path))
		if err != nil {
			yield(nil, err)
			return
		}
		defer file.Close()
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			yield(nil, err)
			return
		}
		entries := tar.NewReader(unzipped)
		for {
			header, err := entries.Next()
			if errors.Is(err, io.EOF) || !yield(header, err) || err != nil {
				return
			}
		}
	}
}

// checkBill checks that a bill of materials has what must be in it.
func checkBill(t *testing.T, path string, onnx bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	bill := decode[struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct{ Name, Version, PURL string }
	}](t, string(text))
	if bill.BOMFormat != "CycloneDX" {
		t.Errorf("%s is %q", path, bill.BOMFormat)
	}
	want := []string{"pkg:golang/connectrpc.com/connect@", "pkg:golang/std@"}
	if onnx {
		want = append(want, "pkg:deb/debian/libc6@", "pkg:npm/onnxruntime-node@")
	}
	for _, prefix := range want {
		if !slices.ContainsFunc(bill.Components, func(c struct{ Name, Version, PURL string }) bool {
			return strings.HasPrefix(c.PURL, prefix) && c.Version != ""
		}) {
			t.Errorf("%s does not list %s", path, prefix)
		}
	}
}

// TestDockerfile builds deploy/Dockerfile with buildah. The image that it builds in cannot
// be fetched without a registry, so that a small one takes its place: busybox, and the Go
// that runs this test. Modules come from the cache, as from a proxy, and so do packages that
// have been compiled already. Its processes run in runc, since buildah's own isolation copies
// itself to memory that it seals, which Linux refuses now and then (EBUSY).
func TestDockerfile(t *testing.T) {
	if *imagesFolder == "" {
		t.Skip("needs -images, which e2e/cluster/run.sh gives")
	}
	storage := []string{"--storage-driver", "vfs", "--root", t.TempDir(), "--runroot", t.TempDir()}
	buildah := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(run(t, 5*patience, "buildah", append(slices.Clone(storage), args...)...))
	}
	inRunc := func(command string, args ...string) string {
		t.Helper()
		return buildah(append([]string{command, "--isolation", "oci", "--network", "host"}, args...)...)
	}
	builder := buildah("from", "scratch")
	buildah("copy", "--quiet", builder, "/bin/busybox", "/bin/sh")
	buildah("copy", "--quiet", builder, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	inRunc("run", builder, "/bin/sh", "-c", "/bin/sh --install -s /bin 2>/dev/null || true; mkdir -p /tmp")
	buildah("config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPROXY=file:///proxy", "--env", "GOCACHE=/cache", builder)
	buildah("commit", "--quiet", "--rm", builder, "mien-test-builder")
	folders := strings.Fields(run(t, patience, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"))
	for _, c := range []struct{ target, entrypoint string }{{"server", "/mien"}, {"client", "/mien-client"}} {
		inRunc("build", "--pull-never", "--quiet", "--file", root+"/deploy/Dockerfile", "--target", c.target,
			"--build-arg", "GO_IMAGE=localhost/mien-test-builder", "--build-arg", "TARGETARCH=amd64",
			"--volume", folders[0]+":/usr/local/go:ro",
			"--volume", folders[1]+"/cache/download:/proxy:ro", "--volume", folders[2]+":/cache", "--tag", "mien-test-"+c.target, root)
		image := decode[struct{ OCIv1 config }](t, buildah("inspect", "--type", "image", "mien-test-"+c.target)).OCIv1
		if image.Config.User != "65532:65532" || !slices.Equal(image.Config.Entrypoint, []string{c.entrypoint}) {
			t.Errorf("%s: its configuration is %+v", c.target, image)
		}
		container := buildah("from", "--pull-never", "mien-test-"+c.target)
		if out := inRunc("run", container, c.entrypoint, "--help"); !strings.Contains(out, "Usage: mien") {
			t.Errorf("%s --help prints %q", c.target, out)
		}
	}
}

// TestCompose checks deploy/compose.yaml with the library that Docker Compose reads it with.
func TestCompose(t *testing.T) {
	if *imagesFolder == "" {
		t.Skip("needs -images, which e2e/cluster/run.sh gives")
	}
	tool := filepath.Join(t.TempDir(), "compose-go")
	run(t, 5*patience, "go", "build", "-C", root+"/tools/images", "-o", tool, "github.com/compose-spec/compose-go/v2/cmd")
	project := decode[struct {
		Services map[string]struct {
			ReadOnly bool     `json:"read_only"`
			CapDrop  []string `json:"cap_drop"`
		} `json:"services"`
	}](t, run(t, patience, tool, "-format", "json", root+"/deploy/compose.yaml"))
	if s := project.Services["mien"]; !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
		t.Errorf("the services are %+v", project.Services)
	}
}
