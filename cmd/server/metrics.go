package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/reason"
	"github.com/mienproject/mien/service"
)

// metrics are the metrics for operators. docs/operations.md explains each of them,
// which a test checks. Labels only have values that this program knows beforehand, so
// that clients cannot create series.
type metrics struct {
	registry *prometheus.Registry

	requests                  *prometheus.CounterVec
	requestSeconds            *prometheus.HistogramVec
	identities                *identities
	images                    *prometheus.CounterVec
	refusals                  *prometheus.CounterVec
	queueSeconds              prometheus.Histogram
	decodeSeconds             prometheus.Histogram
	detectSeconds             *prometheus.HistogramVec
	pixels, bytes             prometheus.Histogram
	faces                     *prometheus.CounterVec
	anyOrientation, truncated *prometheus.CounterVec
}

// Values of labels for requests that have none of their own.
const (
	// otherProcedure is for requests that are not calls: the page, health probes,
	// unknown paths.
	otherProcedure = "other"
	// unreadable is the reason for requests that Connect itself rejects.
	unreadable = "UNREADABLE"
)

var (
	// From the time on an idle server to the default of --timeout, 30 s.
	secondBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// From a thumbnail to the default limit.
	pixelBuckets = []float64{10e3, 50e3, 100e3, 300e3, 1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6}
	byteBuckets  = []float64{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}
	// alerting are reasons that have a series from the start, because Prometheus does
	// not see the first increase of a new series.
	alerting = []string{reason.Overloaded, reason.Draining, reason.Deadline, reason.Internal}
)

func newMetrics() *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	}
	register := func(c prometheus.Collector) { registry.MustRegister(c) }
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		register(c)
		return c
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(histogram(name, help, buckets), labels)
		register(h)
		return h
	}
	one := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(histogram(name, help, buckets))
		register(h)
		return h
	}
	m := &metrics{
		registry:       registry,
		requests:       counters("mien_requests_total", "Requests that have ended, by procedure, protocol and gRPC code.", "procedure", "protocol", "code"),
		requestSeconds: histograms("mien_request_seconds", "Time from the header of a request to the end of its answer.", secondBuckets, "procedure"),
		identities:     &identities{counter: counters("mien_identity_requests_total", "Requests of authenticated callers that have ended, by the caller's name and gRPC code.", "identity", "code"), seen: map[string]bool{}},
		images:         counters("mien_images_total", "Images received, including each image of streams and batches, by model and gRPC code.", "model", "code"),
		refusals:       counters("mien_refusals_total", "Images that failed or were refused, by reason.", "reason"),
		queueSeconds:   one("mien_queue_seconds", "Time that images waited for a worker and for memory.", secondBuckets),
		decodeSeconds:  one("mien_decode_seconds", "Time for decoding an image.", secondBuckets),
		detectSeconds:  histograms("mien_detect_seconds", "Time for detecting the faces in an image.", secondBuckets, "model"),
		pixels:         one("mien_image_pixels", "Pixels of an image, width times height.", pixelBuckets),
		bytes:          one("mien_image_bytes", "Size of an image as sent.", byteBuckets),
		faces:          counters("mien_faces_total", "Faces found.", "model"),
		truncated:      counters("mien_truncated_images_total", "Images of which faces may be missing, because the model limits its time and memory.", "model"),
		anyOrientation: counters("mien_any_orientation_images_total", "Images that were also searched in their quarter turns, which takes at least four times as long.", "model"),
	}
	for _, why := range alerting {
		m.refusals.WithLabelValues(why)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mien_build_info", Help: "Always 1; the labels describe the running binary.",
		ConstLabels: prometheus.Labels{"version": version.Number, "revision": revision(), "go": runtime.Version()},
	})
	info.Set(1)
	register(info)
	return m
}

// revision returns the commit that the binary was built from, if the build recorded it.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

// watch adds metrics for the models of svc, and for its state, which is read when
// metrics are collected.
func (m *metrics) watch(svc *service.Service) {
	list, _ := svc.ListModels(context.Background(), nil) // never fails
	for _, model := range list.GetModels() {
		info := prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mien_model_info", Help: "1 for each model that is served.",
			ConstLabels: prometheus.Labels{
				"model": model.GetName(), "family": model.GetFamily(), "version": model.GetVersion(),
				"default": strconv.FormatBool(model.GetDefault()),
			},
		})
		info.Set(1)
		m.registry.MustRegister(info)
		// Series for models that have not been used yet.
		m.faces.WithLabelValues(model.GetName())
		m.anyOrientation.WithLabelValues(model.GetName())
		m.truncated.WithLabelValues(model.GetName())
		m.detectSeconds.WithLabelValues(model.GetName())
	}
	m.registry.MustRegister(&state{stats: svc.Stats})
}

// watchCertificates adds the metric of the server's certificate, if there is one.
func (m *metrics) watchCertificates(c *certificates) {
	if c == nil {
		return
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mien_tls_certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate expires, as Unix time: the first certificate of its chain to do so.",
	}, func() float64 { return float64(c.expires().Unix()) }))
}

// observe counts one image that has been answered, has failed or was refused.
func (m *metrics) observe(record *service.Record) {
	m.images.WithLabelValues(record.Model, code(record)).Inc()
	if record.Code != 0 {
		why := record.Reason
		if why == "" {
			why = unreadable
		}
		m.refusals.WithLabelValues(why).Inc()
	}
	if record.Bytes > 0 {
		m.bytes.Observe(float64(record.Bytes))
	}
	if record.Width > 0 {
		m.pixels.Observe(float64(record.Width) * float64(record.Height))
	}
	if record.Queue > 0 {
		m.queueSeconds.Observe(record.Queue.Seconds())
	}
	if record.Decode > 0 {
		m.decodeSeconds.Observe(record.Decode.Seconds())
	}
	if record.Detect > 0 {
		m.detectSeconds.WithLabelValues(record.Model).Observe(record.Detect.Seconds())
		m.faces.WithLabelValues(record.Model).Add(float64(record.Faces))
		if record.AnyOrientation {
			m.anyOrientation.WithLabelValues(record.Model).Inc()
		}
		if record.Truncated {
			m.truncated.WithLabelValues(record.Model).Inc()
		}
	}
}

// request counts one request that has ended.
func (m *metrics) request(procedure, protocol, code string, took time.Duration) {
	m.requests.WithLabelValues(procedure, protocol, code).Inc()
	m.requestSeconds.WithLabelValues(procedure).Observe(took.Seconds())
}

// maxIdentities is the maximum number of callers with series of their own. The names come
// from the file of keys and from certificates, and so not from strangers, but an authority
// may issue any number of certificates.
const maxIdentities = 200

// identities counts the requests of authenticated callers. It is safe for concurrent use.
type identities struct {
	counter *prometheus.CounterVec
	mu      sync.Mutex
	seen    map[string]bool
}

// name returns the label for a caller: its name, or "other" if there are too many.
func (i *identities) name(identity string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.seen[identity] {
		if len(i.seen) >= maxIdentities {
			return "other"
		}
		i.seen[identity] = true
	}
	return strings.ToValidUTF8(shorten(identity), "?")
}

// identity counts one request of that caller.
func (m *metrics) identity(identity, code string) {
	m.identities.counter.WithLabelValues(m.identities.name(identity), code).Inc()
}

// code returns the gRPC code of a request as logs and metrics name it.
func code(record *service.Record) string {
	if record.Code == 0 {
		return "ok"
	}
	return record.Code.String()
}

// state collects the state of a service, all from one snapshot.
type state struct{ stats func() service.Stats }

type gauge struct {
	desc  *prometheus.Desc
	value func(service.Stats) float64
}

func newGauge(name, help string, value func(service.Stats) float64) gauge {
	return gauge{prometheus.NewDesc(name, help, nil, nil), value}
}

var gauges = []gauge{
	newGauge("mien_workers", "Maximum number of images processed at the same time.", func(s service.Stats) float64 { return float64(s.Workers) }),
	newGauge("mien_workers_busy", "Images being processed.", func(s service.Stats) float64 { return float64(s.Busy) }),
	newGauge("mien_queue_length", "Images that wait for a worker.", func(s service.Stats) float64 { return float64(s.Queued) }),
	newGauge("mien_queue_limit", "Maximum number of images that wait for a worker.", func(s service.Stats) float64 { return float64(s.QueueLimit) }),
	newGauge("mien_stream_images_waiting", "Images of streams and batches that wait outside of the queue.", func(s service.Stats) float64 { return float64(s.Waiting) }),
	newGauge("mien_streams", "Open streams and batches.", func(s service.Stats) float64 { return float64(s.Streams) }),
	newGauge("mien_inflight_requests", "Requests being read, processed or answered.", func(s service.Stats) float64 { return float64(s.RequestsInFlight) }),
	newGauge("mien_inflight_requests_limit", "Maximum number of requests in flight.", func(s service.Stats) float64 { return float64(s.RequestsLimit) }),
	newGauge("mien_inflight_body_bytes", "Bytes held for the bodies of requests in flight.", func(s service.Stats) float64 { return float64(s.BodyBytesInFlight) }),
	newGauge("mien_inflight_body_limit_bytes", "Maximum bytes held for the bodies of requests in flight.", func(s service.Stats) float64 { return float64(s.BodyBytesLimit) }),
	newGauge("mien_inflight_decoded_bytes", "Memory for images being decoded and searched for faces.", func(s service.Stats) float64 { return float64(s.DecodedBytesInFlight) }),
	newGauge("mien_inflight_decoded_limit_bytes", "Maximum memory for images being decoded and searched for faces.", func(s service.Stats) float64 { return float64(s.DecodedBytesLimit) }),
	newGauge("mien_draining", "1 if new work is refused because the server is about to stop.", func(s service.Stats) float64 {
		if s.Draining {
			return 1
		}
		return 0
	}),
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	now := s.stats()
	for _, g := range gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(now))
	}
}
