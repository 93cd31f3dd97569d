package main

import (
	_ "embed" // the report's text
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/klauspost/cpuid/v2"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

//go:embed report.md
var reportText string

// saidFrom leaves out candidates with very low confidence: with tens of thousands of
// them, any calibration looks perfect.
const saidFrom = 0.1

// falseAllowed is the number of false faces per image at which recall is reported.
const falseAllowed = 0.1

// report returns the measurement in Markdown.
func report(m *measurement) (string, error) {
	text, err := template.New("report").Funcs(template.FuncMap{
		"accuracy":  m.accuracyTable,
		"speed":     m.speedTable,
		"ratios":    m.ratios,
		"threshold": m.thresholdTable,
		"turned":    m.turnedTable,
	}).Parse(reportText)
	if err != nil {
		return "", err
	}
	pooled, _ := m.pooled(m.ways[0].results[m.detectors[0].name])
	var b strings.Builder
	err = text.Execute(&b, map[string]any{
		"Ways": m.ways, "Peers": m.peers, "Rounds": rounds, "CountedFrom": facetest.CountedFrom,
		"Originals": len(m.photos[original]), "Pooled": len(pooled),
		"Turned": m.turnedPhotos(),
		"CPU":    cpuid.CPU.BrandName, "AVX512": cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VNNI), "Cores": runtime.NumCPU(), "Go": runtime.Version(),
	})
	return b.String(), err
}

// accuracyTable has one row for each detector.
func (m *measurement) accuracyTable(w *measuredWay) string {
	rows := [][]string{{"model", "WIDER originals", "recall", "WIDER at 416 px", "recall", "LFW", "net", "calibration", "default", "false"}}
	for _, d := range m.detectors {
		r := w.results[d.name]
		row := []string{"`" + d.name + "`"}
		for _, subset := range []string{original, small} {
			c := facetest.NewCurve(m.photos[subset], r.found[subset])
			var levels []string
			for _, precision := range m.precisions(r, subset) {
				levels = append(levels, page.Decimals(precision, 3))
			}
			row = append(row, strings.Join(levels, " "), page.Decimals(c.RecallAt(falseAllowed), 2))
		}
		for _, subset := range []string{lfw, net} {
			mean, matched := m.landmarkError(r, subset)
			if matched == 0 {
				row = append(row, "–")
				continue
			}
			row = append(row, fmt.Sprintf("%s (%d)", page.Decimals(mean, 3), matched))
		}
		falseFaces := 0
		for _, faces := range r.found[negatives] {
			falseFaces += len(reaching(r.minConfidence, faces))
		}
		rows = append(rows, append(row, m.calibration(r), page.Decimals(r.minConfidence, 2), strconv.Itoa(falseFaces)))
	}
	return page.Table(rows)
}

// calibration returns the expected calibration error of all faces and, in parentheses,
// of those with a confidence of at least saidFrom. For peers, it returns a dash.
func (m *measurement) calibration(r *result) string {
	if m.peers {
		return "–"
	}
	photos, found := m.pooled(r)
	var said [][]face.Face
	for _, faces := range found {
		said = append(said, reaching(saidFrom, faces))
	}
	all, _ := facetest.Calibration(photos, found)
	most, _ := facetest.Calibration(photos, said)
	return page.Decimals(all, 3) + " (" + page.Decimals(most, 3) + ")"
}

// pooled returns the photographs on which defaults are chosen, and what r found in
// them.
func (m *measurement) pooled(r *result) (photos []facetest.Photo, found [][]face.Face) {
	for _, subset := range facetest.DefaultsFrom {
		photos, found = append(photos, m.photos[subset]...), append(found, r.found[subset]...)
	}
	return photos, found
}

// reaching returns the faces of at least that confidence.
func reaching(minConfidence float64, faces []face.Face) []face.Face {
	return slices.DeleteFunc(slices.Clone(faces), func(f face.Face) bool { return f.Confidence < minConfidence })
}

// precisions returns the average precision for each of the three levels.
func (m *measurement) precisions(r *result, subset string) []float64 {
	var levels []float64
	for level := range facetest.Ignore {
		levels = append(levels, facetest.AveragePrecision(m.photos[subset], r.found[subset], level))
	}
	return levels
}

// landmarkError returns the mean landmark error of the faces that were found with
// landmarks, which is NaN if there are none, and their number.
func (m *measurement) landmarkError(r *result, subset string) (mean float64, matched int) {
	var found [][]face.Face
	for _, faces := range r.found[subset] {
		found = append(found, slices.DeleteFunc(slices.Clone(faces), func(f face.Face) bool { return f.Landmarks == nil }))
	}
	mean, matched, _ = facetest.MeanLandmarkError(m.photos[subset], found)
	return mean, matched
}

// speedTable has the milliseconds per image of all ways side by side.
func (m *measurement) speedTable() string {
	head := []string{"model"}
	for _, w := range m.ways {
		head = append(head, w.Title+": detector")
		if w.remote {
			head = append(head, "whole call")
		}
	}
	rows := [][]string{head}
	for _, d := range m.detectors {
		row := []string{"`" + d.name + "`"}
		for _, w := range m.ways {
			r := w.results[d.name]
			row = append(row, page.Decimals(r.detect, 1))
			if w.remote {
				row = append(row, page.Decimals(r.call, 1))
			}
		}
		rows = append(rows, row)
	}
	return page.Table(rows)
}

// ratios compares the detection times of the recommended model, of the model of the old
// system, and of the library's own scan. It is empty if one of them was not measured.
func (m *measurement) ratios() string {
	rows := [][]string{{"detect time, one thread each", "of `" + oldSystem + "`'s", "of `" + reference + "`'s"}}
	for _, w := range m.ways {
		mine, old, ref := w.results[recommended], w.results[oldSystem], w.results[reference]
		if mine == nil || old == nil || ref == nil {
			return ""
		}
		rows = append(rows, []string{"`" + recommended + "`, " + w.Title, page.Decimals(mine.detect/old.detect, 2), page.Decimals(mine.detect/ref.detect, 2)})
	}
	return page.Table(rows)
}

// thresholdTable has recall and false faces per image at round confidences and at each
// default, and the lowest confidence at which a model finds no more false faces than
// the old system. That one is left out for peers.
func (m *measurement) thresholdTable() string {
	curves := map[string]facetest.Curve{}
	for _, d := range m.detectors {
		curves[d.name] = facetest.NewCurve(m.pooled(m.ways[0].results[d.name]))
	}
	cuts := []float64{.1, .3, .5, .6, .7, .75, .8, .85, .9, .95}
	head := []string{"model"}
	for _, cut := range cuts {
		head = append(head, page.Decimals(cut, 2))
	}
	head = append(head, "default")
	if !m.peers {
		head = append(head, "lowest")
	}
	rows := [][]string{head}
	for _, d := range m.detectors {
		cell := func(cut float64) string {
			recall, falseFaces := curves[d.name].At(cut)
			return page.Decimals(recall, 2) + " " + page.Decimals(falseFaces, 2)
		}
		row := []string{"`" + d.name + "`"}
		for _, cut := range cuts {
			row = append(row, cell(cut))
		}
		row = append(row, page.Decimals(m.ways[0].results[d.name].minConfidence, 2)+": "+cell(m.ways[0].results[d.name].minConfidence))
		if m.peers {
			rows = append(rows, row)
			continue
		}
		lowest := "–"
		if old, ok := m.ways[0].results[oldSystem]; ok && d.name != oldSystem {
			_, allowed := curves[oldSystem].At(old.minConfidence)
			lowest = page.Decimals(curves[d.name].LowestCut(allowed), 2)
		}
		rows = append(rows, append(row, lowest))
	}
	return page.Table(rows)
}
