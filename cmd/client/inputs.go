package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
)

// extensions are the suffixes of images in folders, in lower or upper case. The
// format is recognized by content.
var extensions = []string{".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

// inputs returns the names of all files, without duplicates: those of the arguments,
// then those of --files-from, and what it passed over in folders. Files that do not exist are included, so that each
// gets an error like any other file that cannot be read.
func (c *config) inputs(ctx context.Context, stdin io.Reader) ([]string, *passedOver, error) {
	l := &fileList{seen: map[string]bool{}, shard: c.shard, objects: c.objects}
	if c.Annotate != "" {
		l.skip, _ = os.Stat(c.Annotate) // the folder may not exist yet
	}
	for _, name := range c.Files {
		if err := l.addNamed(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	if c.FilesFrom != "" {
		if err := l.read(c.FilesFrom, c.Null, stdin); err != nil {
			return nil, nil, fmt.Errorf("--files-from: %w", err)
		}
	}
	if l.found == 0 {
		where := c.Files
		if c.FilesFrom != "" {
			where = append(where, c.FilesFrom)
		}
		return nil, nil, fmt.Errorf("no images found: nothing below %s ends in one of %s",
			strings.Trim(fmt.Sprintf("%q", where), "[]"), strings.Join(extensions, " "))
	}
	if c.Annotate != "" && slices.ContainsFunc(l.names, isObject) {
		return nil, nil, errors.New("--annotate: images in object storage cannot be annotated")
	}
	return l.names, &l.passedOver, nil
}

// fileList collects names.
type fileList struct {
	names []string
	seen  map[string]bool
	shard shard
	found int // in all shares
	// objects opens object storage.
	objects func() (*minio.Client, error)
	// skip is the folder of annotated images, which are not inputs if it lies in
	// another folder; nil for none.
	skip fs.FileInfo
	passedOver
}

// passedOver are the files in folders that are not images by their names, or not files.
type passedOver struct {
	first []string // the first few
	count int
}

func (p *passedOver) pass(name string) {
	const few = 3
	if p.count++; p.count <= few {
		p.first = append(p.first, printable(label(name)))
	}
}

// report tells how many files were passed over, and names the first ones.
func (p *passedOver) report(s *screen) {
	if p.count == 0 {
		return
	}
	more := ""
	if n := p.count - len(p.first); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	s.printf("passed over %s%s: in folders, only files are images whose names end in one of %s", strings.Join(p.first, ", "), more, strings.Join(extensions, " "))
}

// addNamed adds what an argument stands for.
func (l *fileList) addNamed(ctx context.Context, name string) error {
	switch {
	case name == "-":
		l.add(name)
		return nil
	case isObject(name):
		return l.expandObject(ctx, name)
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
	return nil
}

// add adds a file.
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
		switch {
		case hidden:
		case slices.Contains(extensions, strings.ToLower(filepath.Ext(path))) && isFile(full, d):
			l.add(full)
		default:
			l.pass(full)
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
		switch name := names.Text(); {
		case name == "":
		case isObject(name): // a list of a million objects does not ask for each whether it is a folder
			l.add(name)
		default:
			l.expand(name)
		}
	}
	return names.Err()
}
