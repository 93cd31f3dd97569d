// Command images packs binaries into container images, without a container engine: for each
// image an OCI archive with an index of its platforms. The same files give the same bytes.
// tools/images/build.sh builds the binaries and runs it.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// An image has one binary, at the root of its file system.
type image struct {
	name        string
	binary      string // its path in the image, without the slash
	description string
	ports       []string
	// onnx puts ONNX Runtime beside the binary, and the Debian packages that it needs below
	// both. Such a binary is only built for the platform of the build.
	onnx bool
}

var serverPorts = []string{"8080/tcp", "9464/tcp"}

var images = []image{
	{name: "mien", binary: "mien", description: "Finds the faces in images, with built-in models", ports: serverPorts},
	{name: "mien-yunet", binary: "mien", description: "Finds the faces in images, with YuNet and the other built-in models", ports: serverPorts},
	{name: "mien-onnx", binary: "mien", description: "Finds the faces in images, with built-in models and ONNX Runtime for others", ports: serverPorts, onnx: true},
	{name: "mien-client", binary: "mien-client", description: "Sends images to a Mien server, and writes the faces as lines of JSON"},
}

// The user that distroless images have made usual. A number, because an image from scratch
// has no list of users, and because Kubernetes can check that it is not root.
const user = "65532:65532"

type builder struct {
	from, to          string // folders: the binaries, and the archives
	prefix            string // of the names, such as "registry.example/team/"
	version, revision string
	created           time.Time
}

func main() {
	b := builder{}
	created := int64(0)
	flag.StringVar(&b.from, "from", "", "`folder` with ARCH/IMAGE for each binary, base/*.deb and libonnxruntime.so.1")
	flag.StringVar(&b.to, "to", "", "`folder` for the archives")
	flag.StringVar(&b.prefix, "prefix", "", "`text` before the names of the images")
	flag.StringVar(&b.version, "version", "", "version of the images")
	flag.StringVar(&b.revision, "revision", "", "commit that the images are made from")
	flag.Int64Var(&created, "created", 0, "time of all files, in `seconds` since 1970")
	flag.Parse()
	b.created = time.Unix(created, 0).UTC()
	for _, img := range images {
		if err := b.build(img); err != nil {
			fmt.Fprintf(os.Stderr, "images: %s: %v\n", img.name, err)
			os.Exit(1)
		}
	}
}

func (b *builder) build(img image) error {
	architectures := []string{"amd64", "arm64"}
	if img.onnx {
		architectures = []string{runtime.GOARCH}
	}
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range architectures {
		built, err := b.platform(img, architecture)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	index = mutate.IndexMediaType(mutate.Annotations(index, b.labels(img)).(v1.ImageIndex), types.OCIImageIndex)
	folder, err := os.MkdirTemp("", "mien-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // nothing depends on it
	root, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	name := b.prefix + img.name + ":" + b.version
	if err := root.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": b.version,
		"io.containerd.image.name":          name, // the name that containerd and Docker import it under
	})); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, digest, name, architectures)
	return b.archive(folder, filepath.Join(b.to, img.name+".tar"))
}

// platform makes the image for one architecture.
func (b *builder) platform(img image, architecture string) (v1.Image, error) {
	var layers []v1.Layer
	entries := []entry{{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: certificates()}}
	program, err := os.ReadFile(filepath.Join(b.from, architecture, img.name))
	if err != nil {
		return nil, err
	}
	entries = append(entries, entry{path: img.binary, mode: 0o755, data: program})
	if img.onnx {
		base, err := b.base()
		if err != nil {
			return nil, err
		}
		layers = append(layers, base)
		library, err := os.ReadFile(filepath.Join(b.from, "libonnxruntime.so.1"))
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{path: "usr/lib/libonnxruntime.so.1", mode: 0o644, data: library})
	}
	files, err := b.layer(entries)
	if err != nil {
		return nil, err
	}
	built := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, layer := range append(layers, files) {
		if built, err = mutate.Append(built, mutate.Addendum{
			Layer:     layer,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: b.created}, CreatedBy: "tools/images"},
		}); err != nil {
			return nil, err
		}
	}
	file, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", architecture, v1.Time{Time: b.created}
	file.Config = v1.Config{
		User:       user,
		Entrypoint: []string{"/" + img.binary},
		WorkingDir: "/",
		Env:        []string{"PATH=/"},
		Labels:     b.labels(img),
	}
	for _, port := range img.ports {
		if file.Config.ExposedPorts == nil {
			file.Config.ExposedPorts = map[string]struct{}{}
		}
		file.Config.ExposedPorts[port] = struct{}{}
	}
	return mutate.ConfigFile(built, file)
}

func (b *builder) labels(img image) map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       img.name,
		"org.opencontainers.image.description": img.description,
		"org.opencontainers.image.version":     b.version,
		"org.opencontainers.image.created":     b.created.Format(time.RFC3339),
		"org.opencontainers.image.source":      "https://github.com/mienproject/mien",
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	if b.revision != "" {
		labels["org.opencontainers.image.revision"] = b.revision
	}
	return labels
}

// An entry of a layer is a file.
type entry struct {
	path string
	mode int64
	data []byte
}

func (b *builder) layer(entries []entry) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range entries {
		header := &tar.Header{Name: e.path, Mode: e.mode, Size: int64(len(e.data)), ModTime: b.created, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return newLayer(buffer.Bytes())
}

func newLayer(data []byte) (v1.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		tarball.WithMediaType(types.OCILayer))
}

// base is one layer with the files of the Debian packages, and for each its entry in the
// list of packages, which scanners read.
func (b *builder) base() (v1.Layer, error) {
	packages, err := filepath.Glob(filepath.Join(b.from, "base", "*.deb"))
	if err != nil || len(packages) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no Debian packages in %s/base", b.from))
	}
	slices.Sort(packages)
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	seen := map[string]bool{}
	for _, deb := range packages {
		files, err := exec.Command("dpkg-deb", "--fsys-tarfile", deb).Output() //nolint:gosec,noctx // a file of the build's own
		if err != nil {
			return nil, fmt.Errorf("dpkg-deb --fsys-tarfile %s: %w", deb, err)
		}
		if err := copyFiles(w, files, seen); err != nil {
			return nil, fmt.Errorf("%s: %w", deb, err)
		}
		control, err := exec.Command("dpkg-deb", "--field", deb).Output() //nolint:gosec,noctx // as above
		if err != nil {
			return nil, fmt.Errorf("dpkg-deb --field %s: %w", deb, err)
		}
		if err := w.WriteHeader(&tar.Header{
			Name: "./var/lib/dpkg/status.d/" + filepath.Base(deb), Mode: 0o644, Size: int64(len(control)),
			ModTime: b.created, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}); err != nil {
			return nil, err
		}
		if _, err := w.Write(control); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return newLayer(buffer.Bytes())
}

// copyFiles copies the files of a package, each folder once.
func copyFiles(w *tar.Writer, files []byte, seen map[string]bool) error {
	r := tar.NewReader(bytes.NewReader(files))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if seen[header.Name] {
			continue
		}
		seen[header.Name] = true
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil { //nolint:gosec // a package of the distribution
			return err
		}
	}
}

// certificates are the authorities that Mozilla trusts, in PEM, without those whose trust
// has limits that a list in PEM cannot express.
func certificates() []byte {
	var list []byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			list = append(list, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return list
}

// archive writes the files of a folder in the order of their names, without a time or an owner.
func (b *builder) archive(folder, path string) error {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	files := os.DirFS(folder)
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{
			Name: name, Mode: 0o644, Size: int64(len(data)),
			ModTime: b.created, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close(), file.Close())
}
