package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// objectScheme begins the names of objects in S3, or in storage that speaks its protocol:
// s3://BUCKET/KEY.
const objectScheme = "s3://"

func isObject(name string) bool { return strings.HasPrefix(name, objectScheme) }

// splitObject returns the bucket and the key of an object's name. The key may be empty.
func splitObject(name string) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(name, objectScheme), "/")
	return bucket, key
}

// openObjects returns a client for object storage, with the endpoint, the region and the
// credentials that programs for S3 take from the environment. It does not connect.
func openObjects() (*minio.Client, error) {
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("AWS_ENDPOINT_URL: %q is not the URL of a server: write it as https://HOST:PORT", endpoint)
	}
	c, err := minio.New(u.Host, &minio.Options{
		Secure: u.Scheme == "https",
		Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("AWS_ENDPOINT_URL: %w", err)
	}
	return c, nil
}

// errStorage means that object storage cannot be reached, or fails: another run may succeed.
var errStorage = errors.New("the object storage does not answer as it should")

// storageError says what to do about errors of object storage, whose texts do not.
func storageError(name string, err error) error {
	switch code := minio.ToErrorResponse(err).Code; code {
	case minio.NoSuchBucket:
		return fmt.Errorf("%s: the bucket does not exist at this endpoint (AWS_ENDPOINT_URL, AWS_REGION): %w", name, fs.ErrNotExist)
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	case minio.AccessDenied, minio.InvalidAccessKeyID, minio.SignatureDoesNotMatch:
		return fmt.Errorf("%s: %w: %s: see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket", name, fs.ErrPermission, code)
	}
	return fmt.Errorf("%s: %w: %w", name, errStorage, err)
}

// objectsBelow calls found with the names of the objects below a folder. A folder without a name
// is the whole bucket.
func objectsBelow(ctx context.Context, c *minio.Client, bucket, folder string, found func(key string)) error {
	if folder != "" && !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for object := range c.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: folder, Recursive: true}) {
		if object.Err != nil {
			return storageError(objectScheme+bucket+"/"+folder, object.Err)
		}
		found(object.Key)
	}
	return ctx.Err()
}

// expandObject adds an object, or the images in a folder of objects.
func (l *fileList) expandObject(ctx context.Context, name string) error {
	bucket, key := splitObject(name)
	if bucket == "" {
		return fmt.Errorf("%q names no bucket: write it as s3://BUCKET/FOLDER", name)
	}
	c, err := l.objects()
	if err != nil {
		return err
	}
	before := l.found
	err = objectsBelow(ctx, c, bucket, key, func(key string) {
		hidden := slices.ContainsFunc(strings.Split(key, "/"), func(part string) bool { return strings.HasPrefix(part, ".") })
		switch name := objectScheme + bucket + "/" + key; {
		case hidden:
		case slices.Contains(extensions, strings.ToLower(path.Ext(key))):
			l.add(name)
		default:
			l.pass(name)
		}
	})
	if err == nil && l.found == before && key != "" && !strings.HasSuffix(key, "/") {
		l.add(name) // not a folder
	}
	return err
}

// readObject opens an object.
func readObject(ctx context.Context, c *minio.Client, name string) (io.ReadCloser, error) {
	bucket, key := splitObject(name)
	object, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, storageError(name, err)
	}
	if _, err := object.Stat(); err != nil { // GetObject alone asks nothing
		return nil, errors.Join(storageError(name, err), object.Close())
	}
	return object, nil
}

const (
	// A part is written when it has partBytes, or is partAge old, so that little is done again
	// after a crash.
	partBytes = 8 << 20
	partAge   = 30 * time.Second
	// retriedName is the object with the lines of files that the next run tries again.
	retriedName = "retry.jsonl"
)

// shareFolder matches the folder of a share, I-of-N.
var shareFolder = regexp.MustCompile(`^[0-9]+-of-([0-9]+)/`)

// objectSink writes lines to object storage, where nothing can be appended to: as parts,
// PREFIX/I-of-N/000001.jsonl and so on, in the folder of this share.
type objectSink struct {
	client *minio.Client
	bucket string
	folder string
	parts  int // that exist
	lines  bytes.Buffer
	// retried are the lines for retriedName.
	retried bytes.Buffer
	began   time.Time // when lines got its first one
}

func (s *objectSink) name(object string) string {
	return objectScheme + s.bucket + "/" + s.folder + object
}

// openObjectSink opens the output for a share. resume means that it may have parts.
func openObjectSink(ctx context.Context, c *minio.Client, name string, of shard, resume bool) (*objectSink, earlierRuns, error) {
	bucket, prefix := splitObject(name)
	if bucket == "" {
		return nil, earlierRuns{}, fmt.Errorf("%q names no bucket: write it as s3://BUCKET/FOLDER", name)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	count := max(of.count, 1)
	s := &objectSink{client: c, bucket: bucket, folder: fmt.Sprintf("%s%d-of-%d/", prefix, of.index, count)}
	earlier := earlierRuns{files: map[string]bool{}}
	var own []string
	var others error
	err := objectsBelow(ctx, c, bucket, prefix, func(key string) {
		switch share := shareFolder.FindStringSubmatch(strings.TrimPrefix(key, prefix)); {
		case strings.HasPrefix(key, s.folder):
			own = append(own, strings.TrimPrefix(key, s.folder))
		case share != nil && share[1] != strconv.FormatUint(count, 10):
			others = fmt.Errorf("%s has the results of %s shares: use --shard I/%s, or name another folder", name, share[1], share[1])
		}
	})
	if err := errors.Join(err, others); err != nil {
		return nil, earlier, err
	}
	if len(own) > 0 && !resume {
		return nil, earlier, fmt.Errorf("%s has content already: use --resume to continue it, or remove it to start again", s.name(""))
	}
	for _, object := range own {
		if object == retriedName {
			continue
		}
		if object != s.part(s.parts+1) {
			return nil, earlier, fmt.Errorf("%s was not written by this program, or a part before it is missing: name another folder", s.name(object))
		}
		s.parts++
		if err := s.readPart(ctx, object, earlier); err != nil {
			return nil, earlier, err
		}
	}
	if slices.Contains(own, retriedName) {
		// Its files are tried again.
		if err := c.RemoveObject(ctx, bucket, s.folder+retriedName, minio.RemoveObjectOptions{}); err != nil {
			return nil, earlier, storageError(s.name(retriedName), err)
		}
	}
	return s, earlier, nil
}

// part is the name of the n-th part, from 1. Names sort by number up to a million parts.
func (s *objectSink) part(n int) string { return fmt.Sprintf("%06d.jsonl", n) }

// readPart adds the files of a part to those of earlier runs.
func (s *objectSink) readPart(ctx context.Context, object string, earlier earlierRuns) error {
	r, err := readObject(ctx, s.client, s.name(object))
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	part, err := readAnswered(r)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name(object), err)
	}
	maps.Copy(earlier.files, part.files)
	return nil
}

// write implements sink.
func (s *objectSink) write(text []byte, retried bool) error {
	if retried {
		_, err := s.retried.Write(text)
		return err
	}
	if s.lines.Len() == 0 {
		s.began = time.Now()
	}
	if _, err := s.lines.Write(text); err != nil {
		return err
	}
	if s.lines.Len() < partBytes && time.Since(s.began) < partAge {
		return nil
	}
	return s.flush()
}

// flush writes the lines as the next part.
func (s *objectSink) flush() error {
	if s.lines.Len() == 0 {
		return nil
	}
	object := s.part(s.parts + 1)
	opts := minio.PutObjectOptions{ContentType: "application/jsonl"}
	// Only one process can write a part.
	opts.SetMatchETagExcept("*")
	if err := s.put(object, &s.lines, opts); err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
			return fmt.Errorf("%s: another process is writing this share", s.name(object))
		}
		return storageError(s.name(object), err)
	}
	s.parts++
	return nil
}

// putTimeout is for storage that does not answer.
const putTimeout = 5 * time.Minute

// put writes an object, and empties the buffer if that was done. An interrupt does not end it.
func (s *objectSink) put(object string, content *bytes.Buffer, opts minio.PutObjectOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), putTimeout)
	defer cancel()
	_, err := s.client.PutObject(ctx, s.bucket, s.folder+object, bytes.NewReader(content.Bytes()), int64(content.Len()), opts)
	if err == nil {
		content.Reset()
	}
	return err
}

// close implements sink.
func (s *objectSink) close() error {
	err := s.flush()
	if s.retried.Len() == 0 {
		return err
	}
	if e := s.put(retriedName, &s.retried, minio.PutObjectOptions{ContentType: "application/jsonl"}); e != nil {
		err = errors.Join(err, storageError(s.name(retriedName), e))
	}
	return err
}
