package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The volume of the Job: a folder of this machine, which both nodes have.
const archive = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: archive}
spec: {accessModes: [ReadWriteMany], capacity: {storage: 1Gi}, storageClassName: "", hostPath: {path: FOLDER}, claimRef: {name: archive, namespace: default}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: archive}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}, storageClassName: "", volumeName: archive}
`

// testJob runs deploy/kubernetes/job on a folder of photographs, and kills a pod of it each
// second. Each photograph must have one line with its faces.
func testJob(t *testing.T, image []byte) {
	const shares, photos = 4, 1800
	deploy(t)
	folder := filepath.Join(*clusterRun, "archive")
	for _, name := range []string{"out", "photos"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int{}
	for photo := range photos {
		name := fmt.Sprintf("photos/%d.jpg", photo)
		if err := os.WriteFile(filepath.Join(folder, name), image, 0o600); err != nil {
			t.Fatal(err)
		}
		want[name] = 1
	}
	run(t, patience, "chown", "-R", "65532:65532", folder)
	// The folders above it belong to root alone.
	run(t, patience, "chmod", "a+x", *clusterRun, filepath.Dir(*clusterRun))
	apply(t, strings.ReplaceAll(archive, "FOLDER", folder))
	runJob(t, "job", shares)
	got := map[string]int{}
	for share := range shares {
		lines, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("out/%d.jsonl", share)))
		if err != nil {
			t.Fatal(err)
		}
		countLines(t, got, lines)
	}
	checkLines(t, got, want)
	kubectl(t, "delete", "job/mien-archive", "persistentvolumeclaim/archive", "persistentvolume/archive", "--wait=false")
}

// runJob runs a job of deploy/kubernetes, and kills a pod of it each second, four times. A job has
// several times as many photographs as that takes.
func runJob(t *testing.T, folder string, shares int) {
	t.Helper()
	job := kubectl(t, "kustomize", root+"/deploy/kubernetes/"+folder)
	// The cluster has no DNS.
	address := kubectl(t, "get", "service", "mien", "-o", "jsonpath={.spec.clusterIP}")
	job = strings.NewReplacer("image: mien-client\n", "image: "+imageName(t, "mien-client")+"\n", "--url=http://mien\n", "--url=http://"+address+"\n").Replace(job)
	start := time.Now()
	apply(t, job)
	killed := 0
	waitFor(t, "the job to complete", 4*time.Minute, func() bool {
		if kubectl(t, "get", "job", "mien-archive", "-o", `jsonpath={.status.succeeded}`) == strconv.Itoa(shares) {
			return true
		}
		time.Sleep(time.Second)
		names := strings.Fields(kubectl(t, "get", "pods", "-l", "job-name=mien-archive", "--field-selector=status.phase=Running", "-o", "name"))
		if len(names) > 0 && killed < 4 {
			kubectl(t, "delete", names[killed%len(names)], "--grace-period=0", "--force", "--wait=false")
			killed++
		}
		return false
	})
	t.Logf("complete after %v; %d pods were killed", time.Since(start).Round(time.Second), killed)
	if killed < 2 {
		t.Error("the job was too fast for pods to be killed")
	}
}

// countLines counts the lines of each file. Each must have a face.
func countLines(t *testing.T, got map[string]int, lines []byte) {
	t.Helper()
	for line := range bytes.Lines(lines) {
		var answer struct {
			File    string
			Results []json.RawMessage
		}
		if err := json.Unmarshal(line, &answer); err != nil || len(answer.Results) == 0 {
			t.Errorf("%v, or without a face: %s", err, line)
		}
		got[answer.File]++
	}
}

func checkLines(t *testing.T, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%d of %d photographs have lines: %v", len(got), len(want), slices.Sorted(maps.Values(got)))
	}
}
