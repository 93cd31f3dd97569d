package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mienproject/mien/reason"
	"github.com/mienproject/mien/service"
)

// metrics are the figures that operators see. docs/operations.md explains each;
// a test holds it to that. Labels only have values that this program knows
// beforehand, so that no caller makes series.
type metrics struct {
	registry *prometheus.Registry

	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	images         *prometheus.CounterVec
	refusals       *prometheus.CounterVec
	queueSeconds   prometheus.Histogram
	decodeSeconds  prometheus.Histogram
	detectSeconds  *prometheus.HistogramVec
	pixels, bytes  prometheus.Histogram
	faces          *prometheus.CounterVec
}

// The values of labels for what has none of its own.
const (
	// otherProcedure is for requests that are not calls: the page, health, unknown paths.
	otherProcedure = "other"
	// unreadable is why Connect itself refuses a call.
	unreadable = "UNREADABLE"
)

var (
	// From an idle server to the longest timeout, the default of which is 30 s.
	secondBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// From a thumbnail to the largest that is taken by default.
	pixelBuckets = []float64{10e3, 50e3, 100e3, 300e3, 1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6}
	byteBuckets  = []float64{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}
	// alerting are the reasons that have a series before they happen: an increase
	// from nothing is none.
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
		requests:       counters("mien_requests_total", "Requests answered or refused, by procedure, protocol and gRPC code.", "procedure", "protocol", "code"),
		requestSeconds: histograms("mien_request_seconds", "Time from a request's header to the end of its answer.", secondBuckets, "procedure"),
		images:         counters("mien_images_total", "Images asked about, those of streams and batches one by one, by model and gRPC code.", "model", "code"),
		refusals:       counters("mien_refusals_total", "Images not answered, by reason.", "reason"),
		queueSeconds:   one("mien_queue_seconds", "Time that images waited for a worker and for memory.", secondBuckets),
		decodeSeconds:  one("mien_decode_seconds", "Time that decoding took.", secondBuckets),
		detectSeconds:  histograms("mien_detect_seconds", "Time that the model took.", secondBuckets, "model"),
		pixels:         one("mien_image_pixels", "Width times height of images.", pixelBuckets),
		bytes:          one("mien_image_bytes", "Size of images as they came.", byteBuckets),
		faces:          counters("mien_faces_total", "Faces found.", "model"),
	}
	for _, why := range alerting {
		m.refusals.WithLabelValues(why)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mien_build_info", Help: "1; its labels tell what is running.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision(), "go": runtime.Version()},
	})
	info.Set(1)
	register(info)
	return m
}

// revision is the commit that the binary was built from, where the build knew.
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

// watch adds what svc serves and what it is doing, asked when somebody looks.
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
		// A model that was never asked has found nothing.
		m.faces.WithLabelValues(model.GetName())
		m.detectSeconds.WithLabelValues(model.GetName())
	}
	m.registry.MustRegister(&state{stats: svc.Stats})
}

// observe counts one image that is over.
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
	}
}

// request counts one request that is over.
func (m *metrics) request(procedure, protocol, code string, took time.Duration) {
	m.requests.WithLabelValues(procedure, protocol, code).Inc()
	m.requestSeconds.WithLabelValues(procedure).Observe(took.Seconds())
}

// code is how a call ended, as logs and metrics call it.
func code(record *service.Record) string {
	if record.Code == 0 {
		return "ok"
	}
	return record.Code.String()
}

// state is a collector of what a service is doing at the moment, all of one
// snapshot.
type state struct{ stats func() service.Stats }

type gauge struct {
	desc  *prometheus.Desc
	value func(service.Stats) float64
}

func newGauge(name, help string, value func(service.Stats) float64) gauge {
	return gauge{prometheus.NewDesc(name, help, nil, nil), value}
}

var gauges = []gauge{
	newGauge("mien_workers", "Images that can be worked on at once.", func(s service.Stats) float64 { return float64(s.Workers) }),
	newGauge("mien_workers_busy", "Images being worked on.", func(s service.Stats) float64 { return float64(s.Busy) }),
	newGauge("mien_queue_length", "Images that wait for a worker.", func(s service.Stats) float64 { return float64(s.Queued) }),
	newGauge("mien_queue_limit", "Images that may wait for a worker.", func(s service.Stats) float64 { return float64(s.QueueLimit) }),
	newGauge("mien_stream_images_waiting", "Images of streams and batches that wait outside of the queue.", func(s service.Stats) float64 { return float64(s.Waiting) }),
	newGauge("mien_streams", "Streams and batches that are open.", func(s service.Stats) float64 { return float64(s.Streams) }),
	newGauge("mien_inflight_requests", "Requests being read, worked on or answered.", func(s service.Stats) float64 { return float64(s.RequestsInFlight) }),
	newGauge("mien_inflight_requests_limit", "Requests that may be in flight.", func(s service.Stats) float64 { return float64(s.RequestsLimit) }),
	newGauge("mien_inflight_body_bytes", "Bodies of the requests in flight.", func(s service.Stats) float64 { return float64(s.BodyBytesInFlight) }),
	newGauge("mien_inflight_body_limit_bytes", "Bodies that may be in flight.", func(s service.Stats) float64 { return float64(s.BodyBytesLimit) }),
	newGauge("mien_inflight_decoded_bytes", "Memory taken for decoding and looking at images.", func(s service.Stats) float64 { return float64(s.DecodedBytesInFlight) }),
	newGauge("mien_inflight_decoded_limit_bytes", "Memory that may be taken for decoding and looking at images.", func(s service.Stats) float64 { return float64(s.DecodedBytesLimit) }),
	newGauge("mien_draining", "1 when new work is refused because the server is about to stop.", func(s service.Stats) float64 {
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
