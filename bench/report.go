package main

import (
	"bytes"
	_ "embed" // the report's text
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/klauspost/cpuid/v2"

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
		"Ways": m.ways, "Rounds": rounds, "CountedFrom": facetest.CountedFrom,
		"Originals": len(m.photos[original]), "Pooled": len(pooled),
		"Turned": m.turnedPhotos(),
		"CPU":    cpuid.CPU.BrandName, "Cores": runtime.NumCPU(), "Go": runtime.Version(),
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
			row = append(row, m.precisions(r, subset), decimals(c.RecallAt(falseAllowed), 2))
		}
		for _, subset := range []string{lfw, net} {
			mean, matched, _ := facetest.MeanLandmarkError(m.photos[subset], r.found[subset])
			row = append(row, fmt.Sprintf("%s (%d)", decimals(mean, 3), matched))
		}
		falseFaces := 0
		for _, faces := range r.found[negatives] {
			falseFaces += len(reaching(r.minConfidence, faces))
		}
		rows = append(rows, append(row, m.calibration(r), decimals(r.minConfidence, 2), strconv.Itoa(falseFaces)))
	}
	return markdown(rows)
}

// calibration returns the expected calibration error of all faces and, in parentheses,
// of those with a confidence of at least saidFrom.
func (m *measurement) calibration(r *result) string {
	photos, found := m.pooled(r)
	var said [][]face.Face
	for _, faces := range found {
		said = append(said, reaching(saidFrom, faces))
	}
	all, _ := facetest.Calibration(photos, found)
	most, _ := facetest.Calibration(photos, said)
	return decimals(all, 3) + " (" + decimals(most, 3) + ")"
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
func (m *measurement) precisions(r *result, subset string) string {
	var levels []string
	for level := range facetest.Ignore {
		levels = append(levels, decimals(facetest.AveragePrecision(m.photos[subset], r.found[subset], level), 3))
	}
	return strings.Join(levels, " ")
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
			row = append(row, decimals(r.detect, 1))
			if w.remote {
				row = append(row, decimals(r.call, 1))
			}
		}
		rows = append(rows, row)
	}
	return markdown(rows)
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
		rows = append(rows, []string{"`" + recommended + "`, " + w.Title, decimals(mine.detect/old.detect, 2), decimals(mine.detect/ref.detect, 2)})
	}
	return markdown(rows)
}

// thresholdTable has recall and false faces per image at round confidences and at each
// default, and the lowest confidence at which a model finds no more false faces than
// the old system.
func (m *measurement) thresholdTable() string {
	curves := map[string]facetest.Curve{}
	for _, d := range m.detectors {
		curves[d.name] = facetest.NewCurve(m.pooled(m.ways[0].results[d.name]))
	}
	cuts := []float64{.1, .3, .5, .6, .7, .75, .8, .85, .9, .95}
	head := []string{"model"}
	for _, cut := range cuts {
		head = append(head, decimals(cut, 2))
	}
	rows := [][]string{append(head, "default", "lowest")}
	for _, d := range m.detectors {
		cell := func(cut float64) string {
			recall, falseFaces := curves[d.name].At(cut)
			return decimals(recall, 2) + " " + decimals(falseFaces, 2)
		}
		row := []string{"`" + d.name + "`"}
		for _, cut := range cuts {
			row = append(row, cell(cut))
		}
		row = append(row, decimals(m.ways[0].results[d.name].minConfidence, 2)+": "+cell(m.ways[0].results[d.name].minConfidence))
		lowest := "–"
		if old, ok := m.ways[0].results[oldSystem]; ok && d.name != oldSystem {
			_, allowed := curves[oldSystem].At(old.minConfidence)
			lowest = decimals(curves[d.name].LowestCut(allowed), 2)
		}
		rows = append(rows, append(row, lowest))
	}
	return markdown(rows)
}

// decimals formats a number as in the docs: .9 for 0.9.
func decimals(v float64, digits int) string {
	if math.IsNaN(v) {
		return "–"
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if v < 1 {
		s = strings.TrimPrefix(s, "0")
	}
	return s
}

// markdown aligns the columns of a table, whose first row is the header: the first
// column to the left, the others to the right.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad)
			} else {
				b.WriteString(" | " + pad + cell)
			}
		}
		b.WriteString(" |\n")
		if n == 0 {
			for i, width := range widths {
				if i == 0 {
					b.WriteString("|" + strings.Repeat("-", width+2))
				} else {
					b.WriteString("|" + strings.Repeat("-", width+1) + ":")
				}
			}
			b.WriteString("|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// The lines before and after the report in docs/accuracy.md.
const (
	begin = "<!-- make eval: begin -->\n"
	end   = "<!-- make eval: end -->\n"
)

// replaceReport replaces the report between the markers of a page.
func replaceReport(page []byte, report string) ([]byte, error) {
	before, rest, ok1 := bytes.Cut(page, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		return nil, errors.New("no lines " + strings.TrimSpace(begin) + " and " + strings.TrimSpace(end) + " to write between")
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte(report), []byte(end), after}, nil), nil
}
