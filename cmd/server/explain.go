package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/mienproject/mien/modelstore"
	"github.com/mienproject/mien/onnx"
)

// explainFetch adds to an error of package modelstore what the operator can do about
// it, in terms of this command's flags and variables. hasMirror says whether
// --model-mirror is set. It returns other errors unchanged.
func explainFetch(err error, hasMirror bool) error {
	failure, ok := errors.AsType[*modelstore.FetchError](err)
	if !ok {
		return err
	}
	m := failure.Model
	byHand := fmt.Sprintf("use --model %s=PATH", m.Name)
	if len(m.Files) > 1 {
		byHand += " with the folder of its files"
	}
	var files, urls []string
	for _, f := range m.Files {
		files, urls = append(files, m.Name+"/"+f.Name), append(urls, f.URL)
	}
	onMirror, published := strings.Join(files, ", "), strings.Join(urls, ", ")
	fetching := errors.Is(err, modelstore.ErrUnavailable) || errors.Is(err, modelstore.ErrMismatch)
	switch {
	case errors.Is(err, modelstore.ErrCache):
		return fmt.Errorf("%w; free some space, or set %s to a writable folder, or %s", err, cacheVariable(), byHand)
	case fetching && hasMirror:
		return fmt.Errorf("%w; the mirror (--model-mirror or MIEN_MODEL_MIRROR) must serve %s with the content of %s; or %s",
			err, onMirror, published, byHand)
	case fetching:
		return fmt.Errorf("%w; set --model-mirror (or MIEN_MODEL_MIRROR) to the URL of a server that has %s, or download %s in another way and %s",
			err, onMirror, published, byHand)
	}
	return err
}

// cacheVariable returns the environment variable that determines os.UserCacheDir, where
// modelstore stores its files.
func cacheVariable() string {
	switch runtime.GOOS {
	case "windows":
		return "LocalAppData"
	case "darwin", "ios":
		return "HOME"
	default:
		return "XDG_CACHE_HOME"
	}
}

// explainRuntime adds to an error of package onnx what the operator can do about it. It
// returns other errors unchanged.
func explainRuntime(err error) error {
	if errors.Is(err, onnx.ErrUnavailable) {
		return fmt.Errorf("%w; build it with CGO_ENABLED=1 and a C compiler, or serve a model that needs neither: %s", err, strings.Join(modelNames(), ", "))
	}
	if _, ok := errors.AsType[*onnx.LibraryError](err); ok {
		return fmt.Errorf(`%w; "make onnxruntime" in Mien's repository fetches the library into .bin; or take lib/%s of a release of ONNX Runtime, %s or later, and put it beside the binary, or name it with --onnxruntime (or MIEN_ONNXRUNTIME)`,
			err, onnx.LibraryName(), onnx.MinVersion)
	}
	if _, ok := errors.AsType[*onnx.ProviderError](err); ok {
		return fmt.Errorf("%w; it needs an NVIDIA GPU with its driver, CUDA and cuDNN, and a release of ONNX Runtime for GPUs (onnxruntime-linux-x64-gpu), all of whose libraries are in one folder, named with --onnxruntime (or MIEN_ONNXRUNTIME); or leave out --execution-provider", err)
	}
	return err
}
