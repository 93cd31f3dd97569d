package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The address of the server is that of a node, whose kube-proxy distributes connections to
// the pods of all nodes.
const server = "http://10.77.0.11:30080"

// maxDelay is how much longer than the slowest calls without a load a call may take when a
// node is lost.
const maxDelay = 3 * time.Second

// TestCluster applies deploy/kubernetes to the cluster of cluster.sh, and kills what can be
// killed while clients call. Its steps share the cluster, and run in this order; each can
// also run alone.
func TestCluster(t *testing.T) {
	if *clusterRun == "" {
		t.Skip("needs -cluster, which e2e/cluster/run.sh gives")
	}
	waitFor(t, "two nodes to be ready", patience, func() bool { return readyNodes(t) == 2 })
	image := portrait(t)
	for _, step := range []struct {
		name string
		run  func(t *testing.T, image []byte)
	}{
		{"dry-run", testDryRun},
		{"deploy", testDeploy},
		{"images", testImagesRun},
		{"roll", testRoll},
		{"pod", testPod},
		{"node", testNode},
		{"link", testLink},
		{"job", testJob},
		{"job-s3", testJobS3},
		{"autoscaler", testAutoscaler},
		{"kserve", testKServe},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, image) })
	}
}

// portrait returns a small photograph of one face.
func portrait(t testing.TB) []byte {
	t.Helper()
	photos, err := filepath.Glob(root + "/../shared/faces/lfw_5pt/images/*.jpg")
	if err == nil && len(photos) == 0 {
		shelfMissing(t, "photographs")
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(photos[0])
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// shelfMissing skips a test for lack of files that are not part of the repository. In CI it
// fails the test.
func shelfMissing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("the %s of the team's shelf are missing", what)
	}
	t.Skipf("needs %s, which are not part of the repository", what)
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, 2*patience, "kubectl", args...)
}

// apply applies a manifest.
func apply(t testing.TB, manifest string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubectl(t, append([]string{"apply", "-f", file}, args...)...)
}

func script(t testing.TB, args ...string) {
	t.Helper()
	run(t, patience, "./cluster.sh", args...)
}

func waitFor(t testing.TB, what string, patience time.Duration, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ready(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			pods, _ := try(t.Context(), patience, "kubectl", "get", "nodes,pods,hpa", "-A", "-o", "wide")
			t.Fatalf("waited %v for %s\n%s", patience, what, pods)
		}
	}
}

// A condition of a node or a pod.
type condition struct{ Type, Status string }

var isReady = condition{"Ready", "True"}

func readyNodes(t testing.TB) int {
	t.Helper()
	n := 0
	for _, node := range decode[struct {
		Items []struct {
			Status struct{ Conditions []condition }
		}
	}](t, kubectl(t, "get", "nodes", "-o", "json")).Items {
		if slices.Contains(node.Status.Conditions, isReady) {
			n++
		}
	}
	return n
}

// imageName returns the name under which an archive was imported into the nodes.
func imageName(t testing.TB, archive string) string {
	t.Helper()
	index := run(t, patience, "tar", "-xOf", filepath.Join(*imagesFolder, archive+".tar"), "index.json")
	return decode[struct{ Manifests []descriptor }](t, index).Manifests[0].Annotations["io.containerd.image.name"]
}

// The resources of a pod in the tests: several have to fit into the machine. They are
// replaced in the text of what kustomize makes of deploy/.
var (
	resources     = regexp.MustCompile(`(?s)resources:\n(\s+)limits:\n\s+cpu: "2"\n\s+memory: 1Gi\n\s+requests:\n\s+cpu: "2"\n\s+memory: 1Gi\n`)
	testResources = "resources:\n${1}limits: {cpu: \"1\", memory: 512Mi}\n${1}requests: {cpu: 100m, memory: 128Mi}\n"
	plainImage    = regexp.MustCompile(`(?m)image: mien$`)
)

// manifests returns what kustomize makes of a folder of deploy/kubernetes, with the images and
// resources of the tests.
func manifests(t testing.TB, folder string) string {
	t.Helper()
	text := kubectl(t, "kustomize", root+"/deploy/kubernetes/"+folder)
	if !resources.MatchString(text) || !plainImage.MatchString(text) {
		t.Fatalf("%s has no resources or image to replace:\n%s", folder, text)
	}
	text = resources.ReplaceAllString(text, testResources)
	return plainImage.ReplaceAllString(text, "image: "+imageName(t, "mien"))
}

// nodePort makes the service reachable from outside of the cluster.
const nodePort = `
apiVersion: v1
kind: Service
metadata: {name: mien-outside}
spec:
  type: NodePort
  selector: {app.kubernetes.io/name: mien}
  ports: [{name: h2c, port: 80, targetPort: h2c, nodePort: 30080}]
`

// deploy applies deploy/kubernetes/base, and waits until its three replicas are ready. The
// namespace admits only pods that keep to Kubernetes' restricted standard.
func deploy(t testing.TB) {
	t.Helper()
	kubectl(t, "label", "--overwrite", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
	apply(t, nodePort)
	apply(t, manifests(t, "base"))
	kubectl(t, "rollout", "status", "deployment/mien", "--timeout=180s")
	waitFor(t, "the service to answer", patience, func() bool {
		_, err := get(t.Context(), server+"/readyz")
		return err == nil
	})
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Timeout: 2 * time.Second}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, response.Status, body)
	}
	return string(body), err
}

// A pod, as far as the tests need it.
type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp string
	}
	Spec   struct{ NodeName string }
	Status struct {
		PodIP      string
		Conditions []condition
	}
}

// pods returns the pods of the server that are ready and not about to end.
func pods(t testing.TB) []pod {
	t.Helper()
	all := decode[struct{ Items []pod }](t, kubectl(t, "get", "pods", "-l", "app.kubernetes.io/name=mien", "-o", "json")).Items
	return slices.DeleteFunc(all, func(p pod) bool {
		return p.Metadata.DeletionTimestamp != "" || !slices.Contains(p.Status.Conditions, isReady)
	})
}

// testDryRun lets the API server check everything in deploy/kubernetes, with the definitions
// of KServe and of the Prometheus operator.
func testDryRun(t *testing.T, _ []byte) {
	define(t)
	overlays, err := filepath.Glob(root + "/deploy/kubernetes/overlays/*")
	if err != nil || len(overlays) == 0 {
		t.Fatal("no overlays", err)
	}
	for _, folder := range append(overlays, root+"/deploy/kubernetes/base", root+"/deploy/kubernetes/job", root+"/deploy/kubernetes/job-s3") {
		t.Log(kubectl(t, "apply", "--dry-run=server", "--validate=strict", "-k", folder))
	}
	// As docs/kubernetes.md makes it of the alerts.
	alerts, err := os.ReadFile(root + "/deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	rule := "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: mien}\nspec:\n  " + strings.ReplaceAll(string(alerts), "\n", "\n  ")
	t.Log(apply(t, rule, "--dry-run=server", "--validate=strict"))
}

// define makes the definitions of KServe and of the Prometheus operator known to the cluster.
func define(t testing.TB) {
	t.Helper()
	// They are too large for the annotation of a client's apply.
	kubectl(t, "apply", "--server-side", "-f", filepath.Join(os.Getenv("BIN"), "crds"))
	waitFor(t, "the definitions to be established", patience, func() bool {
		_, err := try(t.Context(), patience, "kubectl", "wait", "--for=condition=Established", "--timeout=5s", "crd", "--all")
		return err == nil
	})
}

// testDeploy checks that the pods are spread over the nodes, and that the server has derived
// its limits from its container.
func testDeploy(t *testing.T, image []byte) {
	start := time.Now()
	deploy(t)
	t.Logf("ready after %v", time.Since(start).Round(time.Second))
	nodes := map[string]int{}
	for _, p := range pods(t) {
		nodes[p.Spec.NodeName]++
		log := kubectl(t, "logs", p.Metadata.Name)
		if !strings.Contains(log, `"memory":"512MiB"`) || !strings.Contains(log, `"workers":1`) {
			t.Errorf("%s has not the limits of its container: %s", p.Metadata.Name, log)
		}
	}
	if len(nodes) != 2 {
		t.Errorf("the three pods are on %v, want both nodes", nodes)
	}
	for kind, connect := range callers {
		if err := connect(t, server)(t.Context(), image); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	// What is for other pods of the namespace too would cut them off.
	for path, want := range map[string]string{
		"networkpolicy/mien {.spec.podSelector.matchLabels}": `{"app.kubernetes.io/name":"mien"}`,
		"poddisruptionbudget/mien {.status.expectedPods}":    "3",
		"poddisruptionbudget/mien {.spec.selector}":          `{"matchLabels":{"app.kubernetes.io/name":"mien"}}`,
	} {
		object, field, _ := strings.Cut(path, " ")
		if got := kubectl(t, "get", object, "-o", "jsonpath="+field); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// testRoll replaces all pods twice while clients call. No call may fail, nor one of the
// clients that do not try again.
func testRoll(t *testing.T, image []byte) {
	deploy(t)
	loads := map[string]*load{}
	for kind := range callers {
		loads[kind] = startLoad(t, kind, image, 1, server)
	}
	time.Sleep(2 * time.Second)
	before := pods(t)
	for range 2 {
		kubectl(t, "rollout", "restart", "deployment/mien")
		kubectl(t, "rollout", "status", "deployment/mien", "--timeout=240s")
	}
	time.Sleep(5 * time.Second) // the last old pods end
	for _, p := range pods(t) {
		if slices.ContainsFunc(before, func(old pod) bool { return old.Metadata.Name == p.Metadata.Name }) {
			t.Errorf("%s was not replaced", p.Metadata.Name)
		}
	}
	for kind, l := range loads {
		check(t, kind, l.stop())
	}
}

// check fails the test if a call failed.
func check(t testing.TB, kind string, o *outcome) {
	t.Helper()
	t.Logf("%s: %v", kind, o)
	if o.failed() > 0 || len(o.times) < 20 {
		t.Errorf("%s: %d calls failed of %d", kind, o.failed(), o.failed()+len(o.times))
	}
}

// busiest returns the pod that has answered the most images.
func busiest(t testing.TB) pod {
	t.Helper()
	var most pod
	maximum := -1.0
	for _, p := range pods(t) {
		metrics, err := get(t.Context(), "http://"+p.Status.PodIP+":9464/metrics")
		if err != nil {
			t.Fatal(err)
		}
		images := 0.0
		for _, m := range regexp.MustCompile(`(?m)^mien_images_total\{.* (\S+)$`).FindAllStringSubmatch(metrics, -1) {
			n, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			images += n
		}
		if images > maximum {
			most, maximum = p, images
		}
	}
	return most
}

// addresses returns the URLs of the pods.
func addresses(t testing.TB) []string {
	t.Helper()
	var urls []string
	for _, p := range pods(t) {
		urls = append(urls, "http://"+p.Status.PodIP+":8080")
	}
	return urls
}

// testPod kills the process of the busiest pod, and then deletes the busiest without a time to
// stop. Of clients that have the addresses of the pods, no call may be lost, and none refused,
// because the other two pods have room for all.
func testPod(t *testing.T, image []byte) {
	deploy(t)
	for name, kill := range map[string]func(p pod){
		"killed": func(p pod) { killProcess(t, p) },
		"deleted": func(p pod) {
			kubectl(t, "delete", "pod", p.Metadata.Name, "--grace-period=0", "--force", "--wait=false")
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The calls of all eight fit into two pods, and not into one.
			loads := map[string]*load{"grpc": startLoad(t, "grpc", image, 4, addresses(t)...), "connect": startLoad(t, "connect", image, 4, addresses(t)...)}
			time.Sleep(4 * time.Second)
			p := busiest(t)
			kill(p)
			time.Sleep(10 * time.Second)
			for kind, l := range loads {
				check(t, kind, l.stop())
			}
			waitFor(t, "three pods", patience, func() bool { return len(pods(t)) == 3 })
		})
	}
}

// killProcess kills the server of a pod, which it finds by its address.
func killProcess(t testing.TB, p pod) {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		command, err := os.ReadFile(filepath.Clean(file))
		if err != nil || !strings.HasPrefix(string(command), "/mien\x00") {
			continue
		}
		pid := filepath.Base(filepath.Dir(file))
		addresses, err := exec.CommandContext(t.Context(), "nsenter", "--net=/proc/"+pid+"/ns/net", "ip", "-4", "-o", "addr").Output()
		if err == nil && strings.Contains(string(addresses), p.Status.PodIP+"/") {
			run(t, patience, "kill", "-9", pid)
			return
		}
	}
	t.Fatalf("%s has no process with the address %s", p.Metadata.Name, p.Status.PodIP)
}

// testNode ends all processes of a node at once, and testLink takes its link away.
func testNode(t *testing.T, image []byte) { loseNode(t, image, "kill") }
func testLink(t *testing.T, image []byte) { loseNode(t, image, "cut") }

// loseNode loses the second node while clients call the pods themselves, whose addresses they
// have, and others call the service. Of the former no call may fail or take long. The latter
// cannot avoid the lost pods until Kubernetes takes these out of the service, since each new
// connection may be to one of them, and are only measured.
func loseNode(t *testing.T, image []byte, how string) {
	t.Helper()
	deploy(t)
	waitFor(t, "pods on both nodes", patience, func() bool {
		nodes := map[string]bool{}
		for _, p := range pods(t) {
			nodes[p.Spec.NodeName] = true
		}
		return len(nodes) == 2
	})
	urls := addresses(t)
	alone := startLoad(t, "grpc", image, 1, server)
	time.Sleep(5 * time.Second)
	usual := alone.stop()
	check(t, "before", usual)
	direct := map[string]*load{"grpc": startLoad(t, "grpc", image, 1, urls...), "connect": startLoad(t, "connect", image, 1, urls...)}
	through := map[string]*load{"grpc": startLoad(t, "grpc", image, 1, server), "connect": startLoad(t, "connect", image, 1, server)}
	time.Sleep(4 * time.Second)
	script(t, how, "2")
	defer rejoin(t)
	time.Sleep(35 * time.Second)
	for kind, l := range direct {
		o := l.stop()
		check(t, kind+" to the pods", o)
		if limit := usual.percentile(99) + maxDelay; o.percentile(100) > limit {
			t.Errorf("%s to the pods: the longest call took %v; the limit is %v", kind, o.percentile(100), limit)
		}
	}
	for kind, l := range through {
		t.Logf("%s through the service: %v", kind, l.stop())
	}
}

// rejoin brings the lost node back, and pods onto both nodes.
func rejoin(t *testing.T) {
	t.Helper()
	script(t, "join", "2")
	waitFor(t, "two nodes to be ready", patience, func() bool { return readyNodes(t) == 2 })
	kubectl(t, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
	kubectl(t, "rollout", "status", "deployment/mien", "--timeout=180s")
}
