// Package networks opens face detectors whose networks are in files. It recognizes the
// family of a network by its inputs and outputs.
package networks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
	open func(networks []engine.Engine, version string) (face.Detector, error)
}

// families has a row for each family. To add a family, add a row.
var families = []family{
	{
		name: "YuNet", known: "YuNet (cls_8 … kps_32)", recognizes: grid.IsYuNet,
		open: func(networks []engine.Engine, version string) (face.Detector, error) {
			return detector(grid.NewYuNet(networks[0], version))
		},
	},
	{
		name: "SCRFD", known: "SCRFD with points (three scores, boxes and points)", recognizes: grid.IsSCRFD,
		open: func(networks []engine.Engine, version string) (face.Detector, error) {
			return detector(grid.NewSCRFD(networks[0], version))
		},
	},
	{
		name: "MTCNN", known: "MTCNN as a folder", files: mtcnn.Files, oneCore: true,
		open: func(networks []engine.Engine, version string) (face.Detector, error) {
			return detector(mtcnn.New(networks, version))
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

// Opener opens the network in the file at path. With oneCore, its runs never need more
// than one core.
type Opener func(path string, oneCore bool) (engine.Engine, error)

// Open opens the model at path: a file of YuNet or SCRFD, or a folder with MTCNN's
// pnet.onnx, rnet.onnx and onet.onnx. It opens each network with open and runs it once,
// and rejects networks that the family does not support. The version of the detector
// depends on the contents of the files.
func Open(path string, open Opener) (face.Detector, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openFolder(path, open)
	}
	return openFile(path, open)
}

func openFile(path string, open Opener) (face.Detector, error) {
	version, err := fileVersion(path)
	if err != nil {
		return nil, err
	}
	e, err := open(path, false)
	if err != nil {
		return nil, err
	}
	var known []string
	for _, f := range families {
		known = append(known, f.known)
		if f.recognizes == nil || !f.recognizes(e) {
			continue
		}
		d, err := f.open([]engine.Engine{e}, version)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: it appears to be %s, but %w", path, f.name, err), e.Close())
		}
		return d, nil
	}
	return nil, errors.Join(fmt.Errorf("%s: %w: it has the inputs %s and the outputs %s; known families are %s",
		path, ErrUnknownFamily, engine.Describe(e.Inputs()), engine.Describe(e.Outputs()), strings.Join(known, ", ")), e.Close())
}

func openFolder(folder string, open Opener) (face.Detector, error) {
	f, paths, err := familyOf(folder)
	if err != nil {
		return nil, err
	}
	version, err := fileVersion(paths...)
	if err != nil {
		return nil, err
	}
	var networks []engine.Engine
	fail := func(err error) (face.Detector, error) {
		for _, e := range networks {
			err = errors.Join(err, e.Close())
		}
		return nil, err
	}
	for _, path := range paths {
		e, err := open(path, f.oneCore)
		if err != nil {
			return fail(err)
		}
		networks = append(networks, e)
	}
	d, err := f.open(networks, version)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", folder, err))
	}
	return d, nil
}

// familyOf returns the family whose files are all in the folder, and their paths.
func familyOf(folder string) (family, []string, error) {
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
			return f, paths, nil
		}
		errs = append(errs, fmt.Errorf("%s does not contain %s: a folder must be %s's, with %s; for all other models, name the file",
			folder, strings.Join(missing, ", "), f.name, strings.Join(f.files, ", ")))
	}
	return family{}, nil, errors.Join(errs...)
}

// fileVersion returns the beginning of the files' hash.
func fileVersion(paths ...string) (string, error) {
	hash := sha256.New()
	for _, path := range paths {
		file, err := os.Open(filepath.Clean(path))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(hash, file)
		_ = file.Close() // it was only read
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:6]), nil
}
