package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/mienproject/mien/annotate"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
)

const (
	// maxPixels is the largest image that a server accepts by default.
	maxPixels = 64_000_000
	// maxDecoded bounds the memory of all images that are being annotated.
	maxDecoded = 1 << 30
)

// annotator writes annotated images to a folder, and never outside of it. A nil
// annotator writes nothing. It is safe for concurrent use.
type annotator struct {
	root   *os.Root
	memory *semaphore.Weighted

	mu    sync.Mutex
	taken map[string]string // source file by target name
}

// newAnnotator creates the folder if it does not exist. It returns nil if dir is
// empty.
func newAnnotator(dir string) (*annotator, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as mkdir would
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &annotator{root: root, memory: semaphore.NewWeighted(maxDecoded), taken: map[string]string{}}, nil
}

func (m *annotator) close() error {
	if m == nil {
		return nil
	}
	return m.root.Close()
}

// annotate writes a copy of the file of that name and content, with the faces of
// res.
func (m *annotator) annotate(ctx context.Context, name string, data []byte, res *inferencev1.InferResults) error {
	if m == nil {
		return nil
	}
	p, err := photo.Open(data, photo.Limits{MaxPixels: maxPixels, MaxBytes: maxDecoded})
	if err != nil {
		return err
	}
	// Memory for decoding, and for the copy that is drawn on.
	need := min(p.MemoryBytes+4*int64(p.Width)*int64(p.Height), maxDecoded)
	if err := m.memory.Acquire(ctx, need); err != nil {
		return err
	}
	defer m.memory.Release(need)
	img, err := p.Decode(ctx)
	if err != nil {
		return err
	}
	target, format := annotatedName(name, p.Format)
	if err := m.reserve(target, name); err != nil {
		return err
	}
	marked := annotate.Draw(img, faces(res))
	if err := m.root.MkdirAll(path.Dir(target), 0o755); err != nil {
		return err
	}
	return m.replace(target, func(w io.Writer) error { return annotate.Encode(w, marked, format) })
}

// reserve returns an error if another file has the same target, or if the target is
// the source itself.
func (m *annotator) reserve(target, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.taken[target]; taken {
		return fmt.Errorf("%s is already the annotated copy of %s", target, other)
	}
	if old, err := m.root.Stat(target); err == nil {
		if source, err := os.Stat(name); err == nil && os.SameFile(old, source) {
			return errors.New("the annotated image would overwrite its source: name another folder")
		}
	}
	m.taken[target] = name
	return nil
}

// replace writes a file atomically.
func (m *annotator) replace(target string, write func(io.Writer) error) error {
	temporary := path.Join(path.Dir(target), "."+path.Base(target)+".tmp")
	f, err := m.root.Create(temporary)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = m.root.Rename(temporary, target)
	}
	if err != nil {
		_ = m.root.Remove(temporary) // the first error is the cause
	}
	return err
}

// annotatedName returns the path below the folder, with slashes, and the format of
// the annotated copy of the file of that name and format: its own path, with "__"
// for each ".." that would leave the folder. A PNG stays a PNG. Every other format
// becomes a JPEG, and the name gets a suffix that says so.
func annotatedName(name, from string) (target string, to annotate.Format) {
	if name == "-" {
		name = "stdin"
	}
	name = filepath.ToSlash(strings.TrimPrefix(name, filepath.VolumeName(name)))
	up := ""
	for strings.HasPrefix(name, "../") {
		name, up = name[3:], up+"__/"
	}
	name = up + strings.TrimLeft(name, "/")
	suffix := strings.ToLower(path.Ext(name))
	switch {
	case from == "png" && suffix == ".png":
		return name, annotate.PNG
	case from == "png":
		return name + ".png", annotate.PNG
	case suffix == ".jpg", suffix == ".jpeg":
		return name, annotate.JPEG
	default:
		return name + ".jpg", annotate.JPEG
	}
}

// faces converts a response to the types of package face.
func faces(res *inferencev1.InferResults) []face.Face {
	point := func(p *inferencev1.Point) face.Point {
		return face.Point{X: float64(p.GetX()), Y: float64(p.GetY())}
	}
	var out []face.Face
	for _, r := range res.GetResults() {
		a, b := point(r.GetBox().GetUpLeft()), point(r.GetBox().GetLowerRight())
		f := face.Face{Box: face.Box{MinX: a.X, MinY: a.Y, MaxX: b.X, MaxY: b.Y}, Confidence: r.GetConfidence()}
		if l := r.GetLandmarks(); l != nil {
			f.Landmarks = &face.Landmarks{
				LeftEye: point(l.GetLeftEye()), RightEye: point(l.GetRightEye()), Nose: point(l.GetNose()),
				MouthLeft: point(l.GetMouthLeft()), MouthRight: point(l.GetMouthRight()),
			}
		}
		out = append(out, f)
	}
	return out
}
