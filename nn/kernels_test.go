package nn

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

// kernelCase is the input of one call of each kernel, drawn from a seed.
type kernelCase struct {
	*rand.Rand
	pixels, blocks, taps, pairs int
}

func newKernelCase(seed uint64) *kernelCase {
	c := &kernelCase{Rand: rand.New(rand.NewPCG(seed, 1))}
	c.pixels = 1 + c.IntN(50)
	c.blocks = 1 + c.IntN(4)
	c.taps = 1 + c.IntN(20)
	c.pairs = []int{2, 4, 5}[c.IntN(3)]
	return c
}

func (c *kernelCase) ints(n int) []int16 {
	v := make([]int16, n)
	for i := range v {
		switch c.IntN(8) {
		case 0:
			v[i] = math.MaxInt16
		case 1:
			v[i] = math.MinInt16
		default:
			v[i] = int16(c.Uint32())
		}
	}
	return v
}

func (c *kernelCase) floats(n int, scale float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = (2*c.Float32() - 1) * scale
	}
	return v
}

// filter returns one whose sums cannot overflow.
func (c *kernelCase) filter() *filter {
	f := &filter{taps: c.taps, pairs: c.pairs, blocks: c.blocks}
	f.weights = c.ints(c.blocks * c.taps * c.pairs * 32)
	shift := 0
	for n := 2 * c.taps * c.pairs; n > 1; n /= 2 {
		shift++
	}
	for i := range f.weights {
		f.weights[i] = f.weights[i] >> shift / 2
	}
	f.bias = make([]int32, 16*c.blocks)
	for i := range f.bias {
		f.bias[i] = int32(c.Uint32()) / 4
	}
	for range c.blocks {
		f.after = append(f.after, c.floats(16, 1e-4)...)
		f.after = append(f.after, c.floats(16, 1e4)...)
		f.after = append(f.after, c.floats(16, 2)...)
		f.after = append(f.after, c.floats(16, 1e4)...)
	}
	f.pack()
	return f
}

// bits are what a kernel writes where it was asked to.
type bits []uint32

// each appends the values of pixels pixels in blocks blocks, each of size values.
func each[T int16 | float32](b *bits, values []T, block, pixels, blocks int) {
	for i := range blocks {
		for _, v := range values[i*block:][:8*pixels] {
			switch v := any(v).(type) {
			case int16:
				*b = append(*b, uint32(uint16(v)))
			case float32:
				*b = append(*b, math.Float32bits(v))
			}
		}
	}
}

// add appends all values.
func (b *bits) add(values []float32) {
	for _, v := range values {
		*b = append(*b, math.Float32bits(v))
	}
}

// kernels are all of them, on the input of a case.
var kernels = map[string]func(c *kernelCase, out *bits){
	"convSums": func(c *kernelCase, out *bits) {
		c.pairs = 4
		f := c.filter()
		src, taps, pixel := c.source()
		block := 8 * (c.pixels + tile)
		dst := make([]float32, 2*c.blocks*block)
		convSums(dst, src, taps, f, block, pixel, c.pixels)
		each(out, dst, block, c.pixels, 2*c.blocks)
	},
	"convInts": func(c *kernelCase, out *bits) {
		f := c.filter()
		src, taps, pixel := c.source()
		block := 8 * (c.pixels + tile)
		dst := make([]int16, 2*c.blocks*block)
		convInts(dst, src, taps, f, f.after, block, pixel, c.pixels)
		each(out, dst, block, c.pixels, 2*c.blocks)
	},
	"depthwiseInts": func(c *kernelCase, out *bits) {
		in, weights, tiles, block := c.window()
		for mode := range 3 {
			dst0, dst1, pool := make([]int16, c.blocks*block), make([]int16, c.blocks*block), make([]int16, c.blocks*block)
			switch mode {
			case 0:
				pool = nil
			case 1:
				dst0, dst1 = nil, nil
			}
			depthwiseInts(dst0, dst1, pool, in, weights, block, block, tiles, c.blocks)
			if dst0 != nil {
				each(out, dst0, block, 2*tiles, c.blocks)
				each(out, dst1, block, 2*tiles, c.blocks)
			}
			if pool != nil {
				each(out, pool, block, tiles, c.blocks)
			}
		}
	},
	"depthwiseFloats": func(c *kernelCase, out *bits) {
		in, weights, tiles, block := c.window()
		dst0, dst1 := make([]float32, c.blocks*block), make([]float32, c.blocks*block)
		depthwiseFloats(dst0, dst1, in, weights, block, tiles, c.blocks)
		each(out, dst0, block, 2*tiles, c.blocks)
		each(out, dst1, block, 2*tiles, c.blocks)
	},
	"maxPool": func(c *kernelCase, out *bits) {
		for side := 2; side <= 3; side++ {
			block := 8 * (2*c.pixels + 2)
			var rows [][]int16
			for range side {
				rows = append(rows, c.ints(c.blocks*block))
			}
			dst := make([]int16, c.blocks*block)
			maxPool(dst, rows, block, block, c.pixels, c.blocks)
			each(out, dst, block, c.pixels, c.blocks)
		}
	},
	"addRows": func(c *kernelCase, out *bits) {
		dst := make([]int16, 16*c.pixels)
		addRows(dst, c.ints(16*c.pixels), c.ints(8*c.pixels), c.pixels)
		each(out, dst, 0, 2*c.pixels, 1)
	},
	"denseFloats": func(c *kernelCase, out *bits) {
		width, perTap, tiles, step := 8+8*c.IntN(2), 1+c.IntN(40), 1+c.IntN(4), 16+8*c.IntN(3)
		room := 100 + c.IntN(1000)
		src := c.floats(2*room+perTap, 300)
		var places []int32
		for range tiles * tile {
			places = append(places, int32(c.IntN(room)))
		}
		var taps []int
		for range c.taps {
			taps = append(taps, c.IntN(room))
		}
		after := c.floats(2*width, 2)
		if c.IntN(2) == 0 {
			clear(after[width:]) // as ReLU has it
			clear(src[room:])
		}
		dst := make([]float32, tiles*tile*step)
		denseFloats(dst, src, places, taps, c.floats(width*perTap*c.taps, 1), after, width, perTap, step, tiles)
		out.add(dst)
	},
	"tileInputs": func(c *kernelCase, out *bits) {
		f, tiles, pixel := c.winograd(), 1+c.IntN(20), 8*(1+c.IntN(4))
		row := (f.side*tiles + 2 + c.IntN(3)) * pixel
		plane := (tiles + c.IntN(3)) * pixel
		dst := make([]float32, f.positions*plane)
		f.input(dst, c.floats((f.side+2)*row, 300), new([36 * 8]float32), row, pixel, plane, tiles)
		out.add(dst)
	},
	"tileProducts": func(c *kernelCase, out *bits) {
		width, values, blocks := 8+8*c.IntN(2), 2+2*c.IntN(20), 1+c.IntN(4)
		srcTile, dstTile := values+c.IntN(8), width+8*c.IntN(3)
		dst := make([]float32, blocks*tile*dstTile)
		tileProducts(dst, c.floats(blocks*tile*srcTile, 300), c.floats(width*values, 1), c.floats(width, 2), srcTile, dstTile, blocks)
		out.add(dst)
	},
	"tileOutputs": func(c *kernelCase, out *bits) {
		f, tiles, pixel := c.winograd(), 1+c.IntN(20), 8*(1+c.IntN(4))
		row := (f.side*tiles + c.IntN(3)) * pixel
		plane := (tiles + c.IntN(3)) * pixel
		src := c.floats(f.positions*plane, 300)
		f.slope = c.floats(pixel, 2)
		if c.IntN(2) == 0 {
			clear(f.slope) // as ReLU has it
			clear(src[plane:])
		}
		dst := make([]float32, f.side*row)
		f.output(dst, src, new([36 * 8]float32), plane, row, tiles)
		out.add(dst)
	},
	"imageInputs": func(c *kernelCase, out *bits) {
		tiles := 1 + c.IntN(20)
		row := 3 * (2*tiles + 2 + c.IntN(3))
		dst := make([]float32, tiles*imageTile+1)
		imageInputs(dst, c.floats(4*row+1, 300), row, tiles)
		out.add(dst[:tiles*imageTile])
	},
	"imageOutputs": func(c *kernelCase, out *bits) {
		f, groups := imageFilter{channels: 8 * (1 + c.IntN(4))}, 1+c.IntN(4)
		f.weights, f.after = c.floats(f.channels*imageTile, 1), c.floats(2*f.channels, 2)
		f.wide, f.wideAfter = widened(f.weights, imageTile), widened(f.after, 2)
		row := (2*imageTiles*groups + c.IntN(3)) * f.channels
		dst := make([]float32, 2*row)
		f.output(dst, c.floats(groups*imageTiles*imageTile, 300), row, groups)
		out.add(dst)
	},
	"poolFloats": func(c *kernelCase, out *bits) {
		for side := 2; side <= 3; side++ {
			pixel := 8 * (1 + c.IntN(4))
			var rows [3][]float32
			for i := range side {
				rows[i] = c.floats((2*c.pixels+1)*pixel, 300)
			}
			dst := make([]float32, c.pixels*pixel)
			columns := [2]int{pixel * c.IntN(2), pixel * c.IntN(3)}
			poolFloats(dst, &rows, side, columns, pixel, c.pixels)
			out.add(dst)
		}
	},
	"quantize": func(c *kernelCase, out *bits) {
		dst := make([]int16, 8*c.pixels)
		src := c.floats(8*c.pixels, 300)
		for i := range src {
			if c.IntN(2) == 0 { // half-way between two integers
				src[i] = float32(math.Round(float64(src[i]))) + 1./256
			}
		}
		quantize(dst[:7*c.pixels], src[:7*c.pixels], 128)
		each(out, dst, 0, c.pixels, 1)
	},
	"maxMagnitude": func(c *kernelCase, out *bits) {
		src := c.floats(7*c.pixels, 300)
		if c.IntN(4) == 0 {
			src[c.IntN(len(src))] = float32(math.NaN())
		}
		*out = append(*out, maxMagnitude(src))
	},
}

// source returns an input for a convolution: pixels that may overlap, as those of rows of
// single values do, and room for whole tiles.
func (c *kernelCase) source() (src []int16, taps []int, pixel int) {
	pixel = 1 + c.IntN(20)
	src = c.ints(4*c.pairs*c.taps + pixel*(c.pixels+tile) + 2*c.pairs)
	for range c.taps {
		taps = append(taps, c.IntN(4*c.pairs*c.taps))
	}
	return src, taps, pixel
}

// winograd returns one of those, without weights.
func (c *kernelCase) winograd() *winograd {
	side := 2 + 2*c.IntN(2)
	return &winograd{side: side, positions: (side + 2) * (side + 2)}
}

// widened returns pairs of vectors side by side: each vector is a number of rows of 8.
func widened(v []float32, rows int) []float32 {
	var w []float32
	for pair := 0; pair+16*rows <= len(v); pair += 16 * rows {
		for r := range rows {
			w = append(w, v[pair+8*r:][:8]...)
			w = append(w, v[pair+8*(rows+r):][:8]...)
		}
	}
	return w
}

// window returns an input for a depthwise convolution.
func (c *kernelCase) window() (in *window, weights []float32, tiles, block int) {
	tiles = (c.pixels + 1) / 2
	block = 8 * (2*tiles + 2)
	in = &window{srcBlock: block}
	for i := range in.rows {
		in.rows[i] = c.floats(c.blocks*block, 1<<31)
	}
	return in, c.floats(80*c.blocks, 2e-5), tiles, block
}

// withTwins calls do with the assembly off, where there is one.
func withTwins(do func()) {
	was := setAssembly(false)
	defer setAssembly(was)
	do()
}

// sameBits checks that a kernel gives the same bits in assembly, with vectors of each width,
// and in Go.
func sameBits(t *testing.T, name string, seed uint64) {
	t.Helper()
	var twin bits
	withTwins(func() { kernels[name](newKernelCase(seed), &twin) })
	for _, wide := range []bool{true, false} {
		was := setWide(wide)
		var fast bits
		kernels[name](newKernelCase(seed), &fast)
		setWide(was)
		for i, v := range twin {
			if fast[i] != v {
				t.Fatalf("%s, case %d: value %d of %d is %x in assembly and %x in Go", name, seed, i, len(twin), fast[i], v)
			}
		}
	}
}

// TestKernelsTwins: assembly and Go give the same bits.
func TestKernelsTwins(t *testing.T) {
	if !assembly {
		t.Skip("this build, or this processor, has the pure Go kernels only")
	}
	seeds := uint64(500)
	if testing.Short() {
		seeds = 50
	}
	for name := range kernels {
		for seed := range seeds {
			sameBits(t, name, seed)
		}
	}
}

// FuzzKernels is TestKernelsTwins for any case.
func FuzzKernels(f *testing.F) {
	if !assembly {
		f.Skip("this build, or this processor, has the pure Go kernels only")
	}
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		for name := range kernels {
			sameBits(t, name, seed)
		}
	})
}

// kernelDigests are those of what the kernels give for some cases, on any processor.
var kernelDigests = map[string]string{
	"addRows":         "7d28d80d29548256",
	"convInts":        "2b134abae600607e",
	"convSums":        "0a02048a948b7200",
	"denseFloats":     "f5f7037ad598e4ee",
	"depthwiseFloats": "1e3a03e335f0f944",
	"depthwiseInts":   "46f4c01637c29125",
	"imageInputs":     "9648146a5196fffe",
	"imageOutputs":    "bc09e2473a8fd961",
	"maxMagnitude":    "a6784d393107d986",
	"maxPool":         "52caf0aab0d15709",
	"poolFloats":      "8ab309185979650c",
	"quantize":        "9d9f77e3b145c483",
	"tileProducts":    "b86908447ce8dc90",
	"tileInputs":      "965718e682445e7f",
	"tileOutputs":     "7b1ab82b764381ee",
}

// TestKernelsDigest: the kernels give the same bits everywhere. TestARM64 runs this test
// for another processor.
func TestKernelsDigest(t *testing.T) {
	for name, kernel := range kernels {
		var out bits
		for seed := range uint64(100) {
			kernel(newKernelCase(1000+seed), &out)
		}
		digest := fnv.New64a()
		_ = binary.Write(digest, binary.LittleEndian, out)
		if got := fmt.Sprintf("%016x", digest.Sum64()); got != kernelDigests[name] {
			t.Errorf("%s: digest %s, want %s", name, got, kernelDigests[name])
		}
	}
}
