package main

import (
	"errors"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/mienproject/mien/bench/page"
)

// draw draws accuracy against processor time, as SVG. Mien's dots are full, the others' are
// rings.
func draw(r *results) ([]byte, error) {
	rep := &reporter{results: r}
	p := page.Panel("mean average precision", plot.LinearScale{}, page.Ticks(0, .2, .4, .6, .8, 1))
	p.X.Label.Text = "processor time for an image, ms"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, page.Ticks(5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
	p.X.Min, p.X.Max = math.Inf(1), 0
	p.Y.Min, p.Y.Max = 0, 1
	for _, peer := range rep.measured() {
		judged, ok := r.Accuracy[peer.name]
		x, y := rep.cpu(peer).median(), judged.mean()
		if !ok || math.IsNaN(x) {
			continue
		}
		if err := addDot(p, peer, x, y); err != nil {
			return nil, err
		}
		p.X.Min, p.X.Max = min(p.X.Min, x/2), max(p.X.Max, x*4)
	}
	if p.X.Max == 0 {
		return nil, errors.New("there is no peer of which both speed and accuracy were measured")
	}
	const width, height = 760, 440
	svg := vgsvg.New(width, height)
	const edge = 10
	p.Draw(vgdraw.Crop(page.White(svg), edge, -edge, edge, -edge))
	return page.SVG(svg)
}

// addDot adds a peer with its name.
func addDot(p *plot.Plot, peer peer, x, y float64) error {
	at := plotter.XYs{{X: x, Y: y}}
	dot, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	dot.GlyphStyle = page.Dot(peer.color)
	p.Add(dot)
	if peer.folder != "" {
		hole, err := plotter.NewScatter(at)
		if err != nil {
			return err
		}
		hole.GlyphStyle = page.Dot(color.White)
		hole.Radius *= 0.6
		p.Add(hole)
	}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: at, Labels: []string{peer.label}})
	if err != nil {
		return err
	}
	style := &label.TextStyle[0]
	style.Font.Variant, style.Font.Size, style.Color = "Sans", page.TextSize, color.Gray{0x22}
	const away, line = 7, 13
	style.YAlign = vgdraw.YCenter
	label.Offset = vg.Point{X: away, Y: vg.Length(peer.up * line)}
	if peer.left {
		style.XAlign, label.Offset.X = vgdraw.XRight, -2*away
	}
	p.Add(label)
	return nil
}
