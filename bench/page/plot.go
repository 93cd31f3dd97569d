package page

import (
	"bytes"
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colors that stay apart for the color-blind, of Okabe and Ito.
var (
	Blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	Orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	Green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	Purple = color.RGBA{0xaa, 0x4f, 0x88, 0xff}
)

// TextSize is the size of text in a plot.
const TextSize = 12

// Panel returns a plot with x from 0 to 1, and a grid.
func Panel(title string, scale plot.Normalizer, y plot.Ticker) *plot.Plot {
	p := plot.New()
	p.X.Min, p.X.Max = 0, 1
	p.X.Tick.Marker = Ticks(0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1)
	p.Y.Label.Text = title
	p.Y.Scale, p.Y.Tick.Marker = scale, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Padding = 0
		for _, style := range []*font.Font{&a.Label.TextStyle.Font, &a.Tick.Label.Font} {
			style.Variant, style.Size = "Sans", TextSize
		}
	}
	p.Legend.TextStyle.Font.Variant = "Sans"
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{0xdd}, color.Gray{0xdd}
	p.Add(grid)
	return p
}

// Dot returns the style of a dot.
func Dot(c color.Color) draw.GlyphStyle {
	return draw.GlyphStyle{Color: c, Radius: 4.5, Shape: draw.CircleGlyph{}}
}

// Ticks returns ticks with labels.
func Ticks(values ...float64) plot.ConstantTicks {
	var t plot.ConstantTicks
	for _, v := range values {
		t = append(t, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return t
}

// White returns the whole canvas, painted white.
func White(svg *vgsvg.Canvas) draw.Canvas {
	all := draw.New(svg)
	all.FillPolygon(color.White, []vg.Point{all.Min, {X: all.Min.X, Y: all.Max.Y}, all.Max, {X: all.Max.X, Y: all.Min.Y}})
	return all
}

// SVG returns the canvas as a file.
func SVG(svg *vgsvg.Canvas) ([]byte, error) {
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return nil, err
	}
	// If the font is missing, use others with letters of the same width.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")), nil
}
