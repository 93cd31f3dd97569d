package main

import (
	"bytes"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/mienproject/mien/face/facetest"
)

// Colors that stay apart for the color-blind, of Okabe and Ito.
var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	purple = color.RGBA{0xaa, 0x4f, 0x88, 0xff}
)

// drawCurves draws recall and false faces against the minimum confidence, one above the
// other, as SVG.
func drawCurves(m *measurement) ([]byte, error) {
	recall := panel("recall", plot.LinearScale{}, ticks(0, .2, .4, .6, .8, 1))
	// A square root shows both a tenth of a face and ten faces.
	falseFaces := panel("false faces an image", squareRoot{}, ticks(0, .1, .5, 1, 2, 5, 10))
	falseFaces.X.Label.Text = "min_confidence"
	legend := plot.NewLegend()
	legend.TextStyle = recall.Legend.TextStyle
	legend.TextStyle.Font.Size = textSize
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
	mark.GlyphStyle = dotOf(color.RGBA{A: 0xff})
	legend.Add("default", mark)

	const width, height, legendWidth = 760, 640, 130
	svg := vgsvg.New(width, height)
	all := draw.New(svg)
	all.FillPolygon(color.White, []vg.Point{{X: 0, Y: 0}, {X: 0, Y: height}, {X: width, Y: height}, {X: width, Y: 0}})
	panels := plot.Align([][]*plot.Plot{{recall}, {falseFaces}},
		draw.Tiles{Rows: 2, Cols: 1, PadTop: 10, PadBottom: 6, PadLeft: 6, PadRight: 12, PadY: 14},
		draw.Crop(all, 0, -legendWidth, 0, 0))
	recall.Draw(panels[0][0])
	falseFaces.Draw(panels[1][0])
	legend.Draw(draw.Crop(all, width-legendWidth, 0, 0, -16))

	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return nil, err
	}
	// If the font is missing, use others with letters of the same width.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")), nil
}

const textSize = 12

// panel returns a plot from 0 to 1 with a grid.
func panel(title string, scale plot.Normalizer, y plot.Ticker) *plot.Plot {
	p := plot.New()
	p.X.Min, p.X.Max = 0, 1
	p.X.Tick.Marker = ticks(0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1)
	p.Y.Label.Text = title
	p.Y.Scale, p.Y.Tick.Marker = scale, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Padding = 0
		for _, style := range []*font.Font{&a.Label.TextStyle.Font, &a.Tick.Label.Font} {
			style.Variant, style.Size = "Sans", textSize
		}
	}
	p.Legend.TextStyle.Font.Variant = "Sans"
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{0xdd}, color.Gray{0xdd}
	p.Add(grid)
	return p
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
	dot.GlyphStyle = dotOf(d.color)
	p.Add(line, dot)
	if legend != nil {
		legend.Add(d.name, line)
	}
	return nil
}

func dotOf(c color.Color) draw.GlyphStyle {
	return draw.GlyphStyle{Color: c, Radius: 4.5, Shape: draw.CircleGlyph{}}
}

// ticks returns ticks with labels.
func ticks(values ...float64) plot.ConstantTicks {
	var t plot.ConstantTicks
	for _, v := range values {
		t = append(t, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return t
}

// squareRoot is a square root scale.
type squareRoot struct{}

// Normalize implements plot.Normalizer.
func (squareRoot) Normalize(low, high, v float64) float64 {
	return (math.Sqrt(v) - math.Sqrt(low)) / (math.Sqrt(high) - math.Sqrt(low))
}
