package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// controlAddress is where pods reach this test, which runs beside the control plane.
const controlAddress = "10.77.0.1"

// storage starts a server of object storage that pods can reach, with two buckets.
func storage(t *testing.T) (*minio.Client, string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(controlAddress, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: gofakes3.New(s3mem.New()).Server()}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	client, err := minio.New(l.Addr().String(), &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"photos", "results"} {
		if err := client.MakeBucket(context.Background(), bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return client, "http://" + l.Addr().String()
}

// testJobS3 runs deploy/kubernetes/job-s3, and kills a pod of it each second. Each photograph
// must have one line with its faces, in all objects together.
func testJobS3(t *testing.T, image []byte) {
	const shares, photos = 4, 1800
	deploy(t)
	client, endpoint := storage(t)
	want := map[string]int{}
	for photo := range photos {
		name := fmt.Sprintf("archive/%d.jpg", photo)
		if _, err := client.PutObject(t.Context(), "photos", name, bytes.NewReader(image), int64(len(image)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		want["s3://photos/"+name] = 1
	}
	kubectl(t, "create", "secret", "generic", "archive-storage", "--from-literal=AWS_ENDPOINT_URL="+endpoint,
		"--from-literal=AWS_ACCESS_KEY_ID=key", "--from-literal=AWS_SECRET_ACCESS_KEY=secret", "--from-literal=AWS_REGION=us-east-1")
	runJob(t, "job-s3", shares)
	got := map[string]int{}
	for object := range client.ListObjectsIter(t.Context(), "results", minio.ListObjectsOptions{Prefix: "faces/", Recursive: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		r, err := client.GetObject(t.Context(), "results", object.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lines, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		countLines(t, got, lines)
	}
	checkLines(t, got, want)
	kubectl(t, "delete", "job/mien-archive", "secret/archive-storage", "--wait=false")
}
