package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extensions are the suffixes of images in folders, in lower or upper case. The
// format is recognized by content.
var extensions = []string{".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

// inputs returns the names of all files, without duplicates: those of the arguments,
// then those of --files-from. Files that do not exist are included, so that each
// gets an error like any other file that cannot be read.
func (c *config) inputs(stdin io.Reader) ([]string, error) {
	l := &fileList{seen: map[string]bool{}, shard: c.shard}
	if c.Annotate != "" {
		l.skip, _ = os.Stat(c.Annotate) // the folder may not exist yet
	}
	for _, name := range c.Files {
		if name == "-" {
			l.add(name)
			continue
		}
		// A pattern that the shell did not expand, unless a file has this name.
		_, err := os.Lstat(name)
		matches, bad := filepath.Glob(name)
		if err == nil || bad != nil || len(matches) == 0 {
			matches = []string{name}
		}
		for _, match := range matches {
			l.expand(match)
		}
	}
	if c.FilesFrom != "" {
		if err := l.read(c.FilesFrom, c.Null, stdin); err != nil {
			return nil, fmt.Errorf("--files-from: %w", err)
		}
	}
	if l.found == 0 {
		where := c.Files
		if c.FilesFrom != "" {
			where = append(where, c.FilesFrom)
		}
		return nil, fmt.Errorf("no images found: nothing below %s ends in one of %s",
			strings.Trim(fmt.Sprintf("%q", where), "[]"), strings.Join(extensions, " "))
	}
	return l.names, nil
}

// fileList collects names.
type fileList struct {
	names []string
	seen  map[string]bool
	shard shard
	found int // in all shares
	// skip is the folder of annotated images, which are not inputs if it lies in
	// another folder; nil for none.
	skip fs.FileInfo
}

func (l *fileList) add(name string) {
	l.found++
	if l.shard.has(name) && !l.seen[name] {
		l.seen[name] = true
		l.names = append(l.names, name)
	}
}

// expand adds a file, or the images in a folder.
func (l *fileList) expand(name string) {
	name = filepath.Clean(name)
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		l.add(name)
		return
	}
	// os.DirFS follows a link to a folder that was named, and WalkDir no others.
	_ = fs.WalkDir(os.DirFS(name), ".", func(path string, d fs.DirEntry, err error) error {
		full := filepath.Join(name, filepath.FromSlash(path))
		if err != nil {
			l.add(full)
			return nil //nolint:nilerr // reading the file reports it
		}
		hidden := path != "." && strings.HasPrefix(d.Name(), ".")
		if d.IsDir() {
			if hidden || l.skips(d) {
				return fs.SkipDir
			}
			return nil
		}
		if !hidden && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))) && isFile(full, d) {
			l.add(full)
		}
		return nil
	})
}

func (l *fileList) skips(d fs.DirEntry) bool {
	if l.skip == nil {
		return false
	}
	info, err := d.Info()
	return err == nil && os.SameFile(info, l.skip)
}

// isFile returns false for pipes and devices, where reading may never end.
func isFile(path string, d fs.DirEntry) bool {
	if d.Type()&fs.ModeSymlink == 0 {
		return d.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular() // reading a broken link will report the error
}

// read adds the names in a list.
func (l *fileList) read(path string, null bool, stdin io.Reader) error {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		stdin = f
	}
	names := bufio.NewScanner(stdin)
	if null {
		names.Split(func(data []byte, atEOF bool) (int, []byte, error) {
			if i := bytes.IndexByte(data, 0); i >= 0 {
				return i + 1, data[:i], nil
			}
			if atEOF && len(data) > 0 {
				return len(data), data, nil
			}
			return 0, nil, nil
		})
	}
	for names.Scan() {
		if name := names.Text(); name != "" {
			l.expand(name)
		}
	}
	return names.Err()
}
