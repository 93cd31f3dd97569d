package service

import (
	"sync"
	"time"

	inference "github.com/mienproject/mien/gen/inference"
)

// statistics counts the images that each model was asked about, and adds up their times.
// It is safe for concurrent use.
type statistics struct {
	mu     sync.Mutex
	models map[string]*modelStatistics
}

// modelStatistics are those of one model.
type modelStatistics struct {
	success, fail               total
	queue, decode, detect, rest total
	last                        time.Time
}

// total is how often something happened, and how long all of it took.
type total struct {
	count uint64
	time  time.Duration
}

func (t *total) add(took time.Duration) {
	t.count++
	t.time += max(0, took)
}

func (t *total) message() *inference.StatisticDuration {
	return &inference.StatisticDuration{Count: t.count, Ns: uint64(t.time)}
}

func newStatistics(models []Model) *statistics {
	s := &statistics{models: map[string]*modelStatistics{}}
	for _, m := range models {
		s.models[m.Name] = &modelStatistics{}
	}
	return s
}

// add counts an image whose answer is ready now, unless no model was asked.
func (s *statistics) add(record *Record, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[record.Model]
	if m == nil {
		return
	}
	took := now.Sub(record.Arrived)
	if record.Code != 0 {
		m.fail.add(took)
		return
	}
	m.last = now
	m.success.add(took)
	m.queue.add(record.Queue)
	m.decode.add(record.Decode)
	m.detect.add(record.Detect)
	m.rest.add(took - record.Queue - record.Decode - record.Detect)
}

// message returns the statistics of a model in the form of the Open Inference Protocol.
func (s *statistics) message(model string) *inference.ModelStatistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[model]
	out := &inference.ModelStatistics{
		Name: model, Version: modelVersion, InferenceCount: m.success.count, ExecutionCount: m.success.count,
		InferenceStats: &inference.InferStatistics{
			Success:       m.success.message(),
			Fail:          m.fail.message(),
			Queue:         m.queue.message(),
			ComputeInput:  m.decode.message(),
			ComputeInfer:  m.detect.message(),
			ComputeOutput: m.rest.message(),
		},
	}
	if !m.last.IsZero() {
		out.LastInference = uint64(m.last.UnixMilli())
	}
	return out
}
