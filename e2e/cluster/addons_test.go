package cluster

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testImagesRun runs the other images of the server in pods. mien-onnx serves a network that
// needs ONNX Runtime, in a namespace that admits the folder of the machine that has it.
func testImagesRun(t *testing.T, image []byte) {
	models, err := filepath.Abs(root + "/../shared/models")
	if err != nil {
		t.Fatal(err)
	}
	const manifest = `
apiVersion: v1
kind: Namespace
metadata: {name: images}
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: images}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: mien
      image: IMAGE
      args: ARGS
      readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
      resources: {limits: {cpu: "1", memory: 1Gi}, requests: {cpu: 100m, memory: 128Mi}}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: models, mountPath: /models, readOnly: true}]
  volumes: [{name: models, hostPath: {path: MODELS, type: Directory}}]
`
	for _, c := range []struct{ name, args, model string }{
		{"mien-yunet", "[]", `"yunet"`},
		{"mien-onnx", `["--model=scrfd=/models/scrfd_500m_kps_640.onnx"]`, `"scrfd"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(models); err != nil {
				shelfMissing(t, "models")
			}
			apply(t, strings.NewReplacer("NAME", c.name, "IMAGE", imageName(t, c.name), "ARGS", c.args, "MODELS", models).Replace(manifest))
			kubectl(t, "wait", "--namespace=images", "--for=condition=Ready", "--timeout=120s", "pod/"+c.name)
			address := kubectl(t, "get", "pod", c.name, "--namespace=images", "-o", "jsonpath={.status.podIP}")
			if err := callers["http/1.1"](t, "http://"+address+":8080")(t.Context(), image); err != nil {
				t.Error(err)
			}
			if log := kubectl(t, "logs", "--namespace=images", c.name); !strings.Contains(log, `"model":`+c.model) {
				t.Errorf("%s did not answer: %s", c.model, log)
			}
			kubectl(t, "delete", "pod", "--namespace=images", c.name, "--grace-period=1")
		})
	}
}

// beside makes a service of a program that runs beside the control plane, at a port of it.
const beside = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: PORT}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: kube-system, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
endpoints: [{addresses: [10.77.0.1]}]
ports: [{port: PORT, protocol: TCP}]
`

// testAutoscaler lets metrics-server measure the pods, and applies overlays/hpa with a short
// time to scale down: under load there are more pods, and without it fewer.
func testAutoscaler(t *testing.T, image []byte) {
	deploy(t)
	script(t, "addon", "metrics-server", os.Getenv("BIN")+"/metrics-server", "--kubeconfig="+os.Getenv("KUBECONFIG"), "--authentication-kubeconfig="+os.Getenv("KUBECONFIG"),
		"--authorization-kubeconfig="+os.Getenv("KUBECONFIG"), "--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP",
		"--metric-resolution=10s", "--kubelet-request-timeout=5s", "--secure-port=4443", "--cert-dir="+filepath.Join(*clusterRun, "metrics-server"))
	apply(t, strings.NewReplacer("NAME", "metrics-server", "PORT", "4443").Replace(beside)+`
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
`)
	kubectl(t, "wait", "--for=condition=Available", "--timeout=60s", "apiservice/v1beta1.metrics.k8s.io")
	scaled := strings.Replace(manifests(t, "overlays/hpa"), "stabilizationWindowSeconds: 300", "stabilizationWindowSeconds: 10", 1)
	scaled = strings.NewReplacer("minReplicas: 3", "minReplicas: 2", "maxReplicas: 30", "maxReplicas: 5", "periodSeconds: 60", "periodSeconds: 5", "value: 25", "value: 100").Replace(scaled)
	apply(t, scaled)
	replicas := func() int {
		n, err := strconv.Atoi(kubectl(t, "get", "deployment", "mien", "-o", "jsonpath={.spec.replicas}"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	start := time.Now()
	waitFor(t, "two replicas without a load", 3*time.Minute, func() bool { return replicas() == 2 })
	t.Logf("2 replicas without a load after %v", time.Since(start).Round(time.Second))
	start = time.Now()
	l := startLoad(t, "grpc", image, 4, server)
	waitFor(t, "four replicas that are ready under load", 3*time.Minute, func() bool { return replicas() >= 4 && len(pods(t)) >= 4 })
	t.Logf("4 replicas that are ready after %v of load", time.Since(start).Round(time.Second))
	check(t, "grpc", l.stop())
	start = time.Now()
	waitFor(t, "two replicas after the load", 3*time.Minute, func() bool { return replicas() == 2 })
	t.Logf("2 replicas %v after the load", time.Since(start).Round(time.Second))
	kubectl(t, "delete", "hpa", "mien")
}

// testKServe runs KServe's controller beside the control plane, and waits until it has made a
// Deployment of the InferenceService that answers.
func testKServe(t *testing.T, image []byte) {
	define(t)
	kubectl(t, "delete", "deployment", "mien", "--ignore-not-found", "--wait=false")
	apply(t, "{apiVersion: v1, kind: Namespace, metadata: {name: kserve}}")
	kubectl(t, "apply", "--namespace=kserve", "-f", filepath.Join(os.Getenv("BIN"), "kserve-config.yaml"))
	pki := filepath.Join(*clusterRun, "pki")
	hooks := filepath.Join(*clusterRun, "kserve", "k8s-webhook-server", "serving-certs")
	if err := os.MkdirAll(hooks, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"webhook.crt": "tls.crt", "webhook.key": "tls.key"} {
		run(t, patience, "cp", filepath.Join(pki, from), filepath.Join(hooks, to))
	}
	script(t, "addon", "kserve-manager", "env", "TMPDIR="+filepath.Join(*clusterRun, "kserve"), "POD_NAMESPACE=kserve",
		os.Getenv("BIN")+"/kserve-manager", "--metrics-addr=127.0.0.1:18080", "--health-probe-addr=127.0.0.1:18081")
	authority, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "KServe's controller", patience, func() bool {
		_, err := get(t.Context(), "http://127.0.0.1:18081/readyz")
		return err == nil
	})
	apply(t, strings.ReplaceAll(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: kserve}
webhooks:
  - name: defaulter.kserve.test
    clientConfig:
      url: https://10.77.0.1:9443/mutate-serving-kserve-io-v1beta1-inferenceservice
      caBundle: AUTHORITY
    failurePolicy: Fail
    sideEffects: None
    admissionReviewVersions: [v1beta1]
    rules: [{apiGroups: [serving.kserve.io], apiVersions: [v1beta1], operations: [CREATE, UPDATE], resources: [inferenceservices]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: kserve}
webhooks:
  - name: validator.kserve.test
    clientConfig:
      url: https://10.77.0.1:9443/validate-serving-kserve-io-v1beta1-inferenceservice
      caBundle: AUTHORITY
    failurePolicy: Fail
    sideEffects: None
    admissionReviewVersions: [v1beta1]
    rules: [{apiGroups: [serving.kserve.io], apiVersions: [v1beta1], operations: [CREATE, UPDATE, DELETE], resources: [inferenceservices]}]
`, "AUTHORITY", base64.StdEncoding.EncodeToString(authority)))
	apply(t, strings.Replace(manifests(t, "overlays/kserve"), "minReplicas: 3", "minReplicas: 1", 1))
	kubectl(t, "wait", "--for=condition=PredictorReady", "--timeout=180s", "inferenceservice/mien")
	t.Log(kubectl(t, "get", "inferenceservice,deployment,service,hpa,pods", "-o", "wide"))
	address := kubectl(t, "get", "pods", "-l", "serving.kserve.io/inferenceservice=mien", "-o", "jsonpath={.items[0].status.podIP}")
	for kind, connect := range callers {
		if err := connect(t, "http://"+address+":8080")(t.Context(), image); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
