package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mienproject/mien/modelstore"
	"github.com/mienproject/mien/onnx"
)

// TestExplainFetch checks that each cause gets the remedies that can help, and keeps
// its own text and identity.
func TestExplainFetch(t *testing.T) {
	one := modelstore.Model{Name: "one", Files: []modelstore.File{{Name: "a.onnx", URL: "https://publisher/a"}}}
	two := modelstore.Model{Name: "two", Files: append(one.Files, modelstore.File{Name: "b.onnx", URL: "https://publisher/b"})}
	for _, c := range []struct {
		name   string
		model  modelstore.Model
		cause  error
		mirror bool
		want   []string
	}{
		{"cache", one, modelstore.ErrCache, false, []string{"free some space", cacheVariable() + " to a writable folder", "--model one=PATH"}},
		{"cache and mirror", one, modelstore.ErrCache, true, []string{"free some space"}},
		{"unavailable", one, modelstore.ErrUnavailable, false, []string{"set --model-mirror (or MIEN_MODEL_MIRROR)", "one/a.onnx", "https://publisher/a in another way", "--model one=PATH"}},
		{"mismatch", one, modelstore.ErrMismatch, false, []string{"set --model-mirror"}},
		{"from a mirror", two, modelstore.ErrMismatch, true, []string{"the mirror (--model-mirror", "two/a.onnx, two/b.onnx", "https://publisher/a, https://publisher/b", "--model two=PATH with the folder"}},
		{"canceled", one, context.Canceled, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := explainFetch(&modelstore.FetchError{Model: c.model, Err: fmt.Errorf("the cause %w", c.cause)}, c.mirror)
			if !errors.Is(err, c.cause) || !strings.HasPrefix(err.Error(), fmt.Sprintf("model %q: the cause", c.model.Name)) {
				t.Errorf("the cause is lost: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing: %v", want, err)
				}
			}
			if c.want == nil && strings.Contains(err.Error(), ";") {
				t.Errorf("this has no remedy: %v", err)
			}
		})
	}
	if other := errors.New("other"); explainFetch(other, false) != other { //nolint:errorlint // it must be the same error
		t.Error("another error was changed")
	}
}

// TestExplainRuntime checks that each cause gets a remedy, and keeps its own text and
// identity.
func TestExplainRuntime(t *testing.T) {
	_, missing := onnx.FindLibrary("/nowhere.so")
	for _, c := range []struct {
		err  error
		want []string
	}{
		{missing, []string{"/nowhere.so does not exist", `"make onnxruntime"`, onnx.MinVersion + " or later", onnx.LibraryName(), "--onnxruntime (or MIEN_ONNXRUNTIME)"}},
		{fmt.Errorf("model.onnx: %w", onnx.ErrUnavailable), []string{"built without cgo", "CGO_ENABLED=1", "mtcnn, pigo, pigo-reference, yunet, yunet-s"}},
		{errors.New("other"), []string{"other"}},
	} {
		err := explainRuntime(c.err)
		if !errors.Is(err, c.err) {
			t.Errorf("the cause is lost: %v", err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is missing: %v", want, err)
			}
		}
	}
}
