package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mienproject/mien/bench/calls"
)

// The kinds of runs.
const (
	closedLoop = "closed"
	openLoop   = "open"
)

// results is what was measured, as it is kept in a file.
type results struct {
	Machine   machine             `json:"machine"`
	Starts    []start             `json:"starts"`
	Runs      []run               `json:"runs"`
	Installed map[string]int64    `json:"installed"` // bytes, by the name of the peer
	Accuracy  map[string]accuracy `json:"accuracy"`  // by the name of the peer
}

// machine is where and when it was measured.
type machine struct {
	CPU      string        `json:"cpu"`
	Cores    int           `json:"cores"`
	Go       string        `json:"go"`
	AVX512   bool          `json:"avx512"`
	Date     string        `json:"date"`
	Photos   int           `json:"photos"`
	Pixels   float64       `json:"pixels"` // mean, in megapixels
	Time     time.Duration `json:"time"`
	OpenTime time.Duration `json:"openTime"`
	Deadline time.Duration `json:"deadline"`
}

// A start is one start of a peer.
type start struct {
	Peer  string  `json:"peer"`
	Round int     `json:"round"`
	First float64 `json:"first"` // seconds until the first answer
	Rest  float64 `json:"rest"`  // PSS in bytes after it
	Faces int     `json:"faces"` // in all photographs
}

// A run is one loop of one peer.
type run struct {
	Peer  string `json:"peer"`
	Door  string `json:"door"`
	Round int    `json:"round"`
	Kind  string `json:"kind"`
	// Level is the number of callers of a closed loop, and the multiple of the capacity of
	// an open one.
	Level int `json:"level"`

	Offered int            `json:"offered"`
	Good    int            `json:"good"`
	Refused int            `json:"refused"`
	Failed  map[string]int `json:"failed,omitempty"`
	Seconds float64        `json:"seconds"`
	// Milliseconds at the caller, of good answers and of refusals.
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	RefusedP50 float64 `json:"refusedP50,omitempty"`
	RefusedP99 float64 `json:"refusedP99,omitempty"`
	// OwnRefusedP99 is what the server itself says of its refusals, if it does.
	OwnRefusedP99 float64 `json:"ownRefusedP99,omitempty"`
	// Lasting is the rate of good answers in an open loop, without its first quarter, and until
	// callers stop to come.
	Lasting float64 `json:"lasting,omitempty"`
	CPU     float64 `json:"cpu"` // seconds of all processes
	PSS     float64 `json:"pss"` // the highest, in bytes
}

// rate returns the good answers per second.
func (r run) rate() float64 { return float64(r.Good) / r.Seconds }

// processorTime returns the milliseconds of processor time for a good answer.
func (r run) processorTime() float64 { return r.CPU * 1e3 / float64(max(r.Good, 1)) }

// failures returns the number of calls that were neither answered nor refused.
func (r run) failures() int { return r.Offered - r.Good - r.Refused }

// An accuracy is what "make eval" says of a peer.
type accuracy struct {
	Name          string              `json:"name"`
	MinConfidence float64             `json:"minConfidence"`
	Originals     [3]float64          `json:"originals"`
	Small         [3]float64          `json:"small"`
	Recall        float64             `json:"recall"`
	FalseFaces    float64             `json:"falseFaces"`
	Landmarks     map[string]*float64 `json:"landmarks"`
}

// mean returns the mean average precision of both sets and all levels.
func (a accuracy) mean() float64 {
	sum := 0.0
	for _, v := range slices.Concat(a.Originals[:], a.Small[:]) {
		sum += v
	}
	return sum / float64(len(a.Originals)+len(a.Small))
}

// of makes a run of a tally.
func (r run) of(t *calls.Tally) run {
	r.Offered, r.Good, r.Failed, r.Seconds = t.Offered, len(t.Good), t.Failed, t.Took.Seconds()
	if t.Unsent > 0 {
		r.Failed["not sent: too many calls were open"] = t.Unsent
	}
	refused := t.Refusals()
	r.Refused = len(refused)
	r.P50, r.P99 = calls.Percentiles(t.Good)
	r.RefusedP50, r.RefusedP99 = calls.Percentiles(refused)
	return r
}

// readResults reads what was kept.
func readResults(path string) (*results, error) {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("%w; measure before, without --report", err)
	}
	r := &results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// keep writes the results, so that they are there if a later round fails.
func (r *results) keep(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
