package main

import (
	"encoding/json"
	"math"

	"github.com/mienproject/mien/face/facetest"
)

// A summary is what --json says about one detector: the numbers of the tables, but not
// rounded.
type summary struct {
	Name string `json:"name"`
	// MinConfidence is the default confidence. The service has it as a float32.
	MinConfidence float32 `json:"minConfidence"`
	// The average precision on the WIDER originals and at 416 pixels, for each level.
	Originals []float64 `json:"originals"`
	Small     []float64 `json:"small"`
	// Recall, and false faces per image, at MinConfidence on the photographs of the
	// table of thresholds.
	Recall     number `json:"recall"`
	FalseFaces number `json:"falseFaces"`
	// Landmarks has the mean landmark errors.
	Landmarks struct {
		LFW number `json:"lfw"`
		Net number `json:"net"`
	} `json:"landmarks"`
	// Photos is the number of photographs in which faces were looked for.
	Photos int `json:"photos"`
}

// number is null in JSON where the tables have a dash.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// summarize returns the summaries of all detectors in the first way, as JSON.
func summarize(m *measurement) ([]byte, error) {
	var all []summary
	for _, d := range m.detectors {
		r := m.ways[0].results[d.name]
		recall, falseFaces := facetest.NewCurve(m.pooled(r)).At(r.minConfidence)
		s := summary{
			Name: d.name, MinConfidence: float32(r.minConfidence),
			Originals: m.precisions(r, original), Small: m.precisions(r, small),
			Recall: number(recall), FalseFaces: number(falseFaces),
		}
		onLFW, _ := m.landmarkError(r, lfw)
		onNet, _ := m.landmarkError(r, net)
		s.Landmarks.LFW, s.Landmarks.Net = number(onLFW), number(onNet)
		for _, subset := range subsets {
			s.Photos += len(m.photos[subset])
		}
		all = append(all, s)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	return append(text, '\n'), err
}
