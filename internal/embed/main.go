// Command embed puts a known model where the server's build embeds it. It takes the model
// from the cache, from the mirror at MIEN_MODEL_MIRROR or from its publisher, and verifies
// it. "make build EMBED=yunet" runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/mienproject/mien/modelstore"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: embed MODEL FILE") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := embed(flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// embed copies the model's file to path, which appears only if it is complete.
func embed(model, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store := &modelstore.Store{Mirror: os.Getenv("MIEN_MODEL_MIRROR")}
	if err := store.Validate(); err != nil {
		return fmt.Errorf("MIEN_MODEL_MIRROR %w", err)
	}
	fetched, err := store.Fetch(ctx, model)
	if err != nil {
		return fmt.Errorf("%w; MIEN_MODEL_MIRROR can name the URL of a mirror that has it", err)
	}
	source, err := os.Open(filepath.Clean(fetched))
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // it was only read
	part, err := os.CreateTemp(filepath.Dir(path), "*.partial")
	if err != nil {
		return err
	}
	_, err = io.Copy(part, source)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return nil
}
