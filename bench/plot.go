package main

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/face/facetest"
)

// drawCurves draws recall and false faces against the minimum confidence, one above the
// other, as SVG.
func drawCurves(m *measurement) ([]byte, error) {
	recall := page.Panel("recall", plot.LinearScale{}, page.Ticks(0, .2, .4, .6, .8, 1))
	// A square root shows both a tenth of a face and ten faces.
	falseFaces := page.Panel("false faces an image", squareRoot{}, page.Ticks(0, .1, .5, 1, 2, 5, 10))
	falseFaces.X.Label.Text = "min_confidence"
	legend := plot.NewLegend()
	legend.TextStyle = recall.Legend.TextStyle
	legend.TextStyle.Font.Size = page.TextSize
	legend.Left, legend.Top = true, true
	legend.ThumbnailWidth = 28
	legend.Padding = 5

	for _, d := range m.detectors {
		r := m.ways[0].results[d.name]
		c := facetest.NewCurve(m.pooled(r))
		if err := addCurve(recall, &legend, d, r.minConfidence, func(t float64) float64 { v, _ := c.At(t); return v }); err != nil {
			return nil, err
		}
		if err := addCurve(falseFaces, nil, d, r.minConfidence, func(t float64) float64 { _, v := c.At(t); return v }); err != nil {
			return nil, err
		}
	}
	recall.Y.Min, recall.Y.Max = 0, 1
	// At a confidence of 0 there are hundreds, which are not useful.
	falseFaces.Y.Min, falseFaces.Y.Max = 0, 10
	mark, err := plotter.NewScatter(plotter.XYs{{}})
	if err != nil {
		return nil, err
	}
	mark.GlyphStyle = page.Dot(color.RGBA{A: 0xff})
	legend.Add("default", mark)

	const width, height, legendWidth = 760, 640, 130
	svg := vgsvg.New(width, height)
	all := page.White(svg)
	panels := plot.Align([][]*plot.Plot{{recall}, {falseFaces}},
		draw.Tiles{Rows: 2, Cols: 1, PadTop: 10, PadBottom: 6, PadLeft: 6, PadRight: 12, PadY: 14},
		draw.Crop(all, 0, -legendWidth, 0, 0))
	recall.Draw(panels[0][0])
	falseFaces.Draw(panels[1][0])
	legend.Draw(draw.Crop(all, width-legendWidth, 0, 0, -16))

	return page.SVG(svg)
}

// addCurve draws f, with a dot at the detector's default confidence.
func addCurve(p *plot.Plot, legend *plot.Legend, d detector, minConfidence float64, f func(float64) float64) error {
	const steps = 200
	var xys plotter.XYs
	for i := range steps + 1 {
		t := float64(i) / steps
		xys = append(xys, plotter.XY{X: t, Y: f(t)})
	}
	line, err := plotter.NewLine(xys)
	if err != nil {
		return err
	}
	line.Color, line.Width = d.color, 1.8
	if d.dashed {
		line.Dashes = []vg.Length{5, 3}
	}
	dot, err := plotter.NewScatter(plotter.XYs{{X: minConfidence, Y: f(minConfidence)}})
	if err != nil {
		return err
	}
	dot.GlyphStyle = page.Dot(d.color)
	p.Add(line, dot)
	if legend != nil {
		legend.Add(d.name, line)
	}
	return nil
}

// squareRoot is a square root scale.
type squareRoot struct{}

// Normalize implements plot.Normalizer.
func (squareRoot) Normalize(low, high, v float64) float64 {
	return (math.Sqrt(v) - math.Sqrt(low)) / (math.Sqrt(high) - math.Sqrt(low))
}
