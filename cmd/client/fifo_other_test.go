//go:build !unix

package main

import "os"

// makeFIFO makes a folder, which is no file of an image either: there are no named pipes.
func makeFIFO(path string) error { return os.Mkdir(path, 0o700) }
