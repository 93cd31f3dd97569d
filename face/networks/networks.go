// Package networks opens face detectors whose networks are in files. It recognizes the
// family of a network by its inputs and outputs.
package networks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/grid"
	"github.com/mienproject/mien/face/mtcnn"
)

// ErrUnknownFamily means that the networks do not belong to a known family.
var ErrUnknownFamily = errors.New("unknown model family")

// family is a family of detectors.
type family struct {
	name string
	// known is the name of the family, and how its networks are recognized, for
	// messages.
	known string
	// files are the names of the networks in a folder. If there are none, the family
	// has one network, in a file of any name.
	files []string
	// recognizes reports whether a network belongs to the family. Folders are
	// recognized by the names of their files.
	recognizes func(engine.Engine) bool
	// oneCore means that the networks are too small to run on several cores.
	oneCore bool
	// open checks the networks, which are in the order of files, and returns the
	// detector. version names them.
	open func(networks []engine.Engine, version string, gate *cores.Gate) (face.Detector, error)
}

// families has a row for each family. To add a family, add a row.
var families = []family{
	{
		name: "YuNet", known: "YuNet (cls_8 … kps_32)", recognizes: grid.IsYuNet,
		open: func(networks []engine.Engine, version string, _ *cores.Gate) (face.Detector, error) {
			return detector(grid.NewYuNet(networks[0], version))
		},
	},
	{
		name: "SCRFD", known: "SCRFD with points (three scores, boxes and points)", recognizes: grid.IsSCRFD,
		open: func(networks []engine.Engine, version string, _ *cores.Gate) (face.Detector, error) {
			return detector(grid.NewSCRFD(networks[0], version))
		},
	},
	{
		name: "MTCNN", known: "MTCNN as a folder", files: mtcnn.Files, oneCore: true,
		open: func(networks []engine.Engine, version string, gate *cores.Gate) (face.Detector, error) {
			return detector(mtcnn.New(networks, version, gate))
		},
	},
}

// detector returns a nil interface for a nil detector.
func detector[D face.Detector](d D, err error) (face.Detector, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// File is an ONNX file.
type File struct {
	// Path is where the file is, or its name if it is only in memory.
	Path string
	// Data is its content.
	Data []byte
}

// Opener opens the network in a file. With oneCore, its runs never need more than one
// core. It may be called concurrently.
type Opener func(file File, oneCore bool) (engine.Engine, error)

// maxFile is the maximum size of a file. Those of the known families are far below it.
const maxFile = 1 << 30

// Open opens the model at path: a file of YuNet or SCRFD, or a folder with MTCNN's
// pnet.onnx, rnet.onnx and onet.onnx; see OpenFiles. The gate is that of the networks; nil
// means one core.
func Open(path string, gate *cores.Gate, open Opener) (face.Detector, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	paths := []string{path}
	if info.IsDir() {
		if paths, err = filesIn(path); err != nil {
			return nil, err
		}
	}
	var files []File
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{path, data})
	}
	return OpenFiles(files, gate, open)
}

// OpenFiles opens the model in one file, or in MTCNN's three files in the order of
// mtcnn.Files. It opens the networks with open, beside each other, and runs each once, and
// rejects networks that the family does not support. The version of the detector depends on
// the contents of the files.
func OpenFiles(files []File, gate *cores.Gate, open Opener) (face.Detector, error) {
	of := func(f family) bool { return len(f.files) == len(files) }
	oneCore := slices.ContainsFunc(families, func(f family) bool { return of(f) && f.oneCore })
	opened, name, err := openAll(files, oneCore, open)
	fail := func(err error) (face.Detector, error) {
		for _, e := range opened {
			if e != nil {
				err = errors.Join(err, e.Close())
			}
		}
		return nil, err
	}
	if err != nil {
		return fail(err)
	}
	for _, f := range families {
		if !of(f) && !(len(files) == 1 && f.recognizes != nil && f.recognizes(opened[0])) {
			continue
		}
		d, err := f.open(opened, name, gate)
		if err != nil && f.recognizes != nil {
			err = fmt.Errorf("it appears to be %s, but %w", f.name, err)
		}
		if err != nil {
			return fail(fmt.Errorf("%s: %w", place(files), err))
		}
		return d, nil
	}
	var known []string
	for _, f := range families {
		known = append(known, f.known)
	}
	if len(opened) != 1 {
		return fail(fmt.Errorf("%w: no family has %d files", ErrUnknownFamily, len(files)))
	}
	return fail(fmt.Errorf("%s: %w: it has the inputs %s and the outputs %s; known families are %s", files[0].Path, ErrUnknownFamily,
		engine.Describe(opened[0].Inputs()), engine.Describe(opened[0].Outputs()), strings.Join(known, ", ")))
}

// openAll opens the networks beside each other, and returns those that it could open, their
// version, and the first error.
func openAll(files []File, oneCore bool, open Opener) (opened []engine.Engine, name string, err error) {
	opened = make([]engine.Engine, len(files))
	errs := make([]error, len(files))
	var all sync.WaitGroup
	all.Go(func() { name = version(files) })
	for i, file := range files {
		all.Go(func() { opened[i], errs[i] = open(file, oneCore) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return opened, name, err
		}
	}
	return opened, name, nil
}

// MTCNN opens the networks that are built in, with the gate of Open; see mtcnn.Weights.
func MTCNN(gate *cores.Gate, open Opener) (face.Detector, error) {
	var files []File
	for i, data := range mtcnn.Weights() {
		files = append(files, File{mtcnn.Files[i], data})
	}
	return OpenFiles(files, gate, open)
}

// place returns the path of a model's file, or the folder of its files.
func place(files []File) string {
	if len(files) == 1 {
		return files[0].Path
	}
	return filepath.Dir(files[0].Path)
}

// filesIn returns the paths of the files of the family whose files are all in the folder.
func filesIn(folder string) ([]string, error) {
	var errs []error
	for _, f := range families {
		if len(f.files) == 0 {
			continue
		}
		var paths, missing []string
		for _, name := range f.files {
			path := filepath.Join(folder, name)
			paths = append(paths, path)
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return paths, nil
		}
		errs = append(errs, fmt.Errorf("%s does not contain %s: a folder must be %s's, with %s; for all other models, name the file",
			folder, strings.Join(missing, ", "), f.name, strings.Join(f.files, ", ")))
	}
	return nil, errors.Join(errs...)
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes, which no model of a known family is", path, maxFile)
	}
	if err == nil {
		err = checkKind(path, data)
	}
	return data, err
}

// checkKind returns an error for files that are often found in place of a model.
func checkKind(path string, data []byte) error {
	start := bytes.TrimSpace(data[:min(len(data), 512)])
	var what string
	switch {
	case len(start) == 0:
		what = "it is empty"
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		what = `it is a pointer of Git LFS: "git lfs pull" fetches the file itself`
	case bytes.HasPrefix(start, []byte("<")):
		what = "it is a web page, perhaps about the file"
	default:
		return nil
	}
	return fmt.Errorf("%s is not an ONNX model: %s", path, what)
}

// version returns the beginning of the files' hash.
func version(files []File) string {
	hash := sha256.New()
	for _, f := range files {
		_, _ = hash.Write(f.Data) // it never fails
	}
	return hex.EncodeToString(hash.Sum(nil)[:6])
}
