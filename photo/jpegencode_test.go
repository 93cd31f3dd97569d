package photo_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
)

// testJPEG makes a JPEG for a test, with sampling factors, scans and markers that
// common encoders do not write. The expected samples of each component come from
// image/jpeg, which decodes each component as a file of its own.
type testJPEG struct {
	width, height int
	sampling      []int // of each component, as in the file: h<<4 | v
	script        []testScan
	progressive   bool
	restart       int
	noTables      bool // leave out the Huffman tables, which are the standard ones
	adobe         int  // the transform in the Adobe marker; -1 for no marker

	blocks [][][64]int // of each component, row by row in whole units, in the file's order
}

// testScan is a scan: its components, the range of coefficients, and their bits.
type testScan struct {
	components             []int
	first, last, high, low int
}

// interleaved returns a script with one scan of n components.
func interleaved(n int) []testScan {
	s := testScan{last: 63}
	for i := range n {
		s.components = append(s.components, i)
	}
	return []testScan{s}
}

func separate(n int) (scans []testScan) {
	for i := range n {
		scans = append(scans, testScan{components: []int{i}, last: 63})
	}
	return scans
}

func progressive(n int) []testScan {
	dc := interleaved(n)[0]
	dc.last, dc.low = 0, 1
	scans := []testScan{dc}
	for i := range n {
		scans = append(scans, testScan{[]int{i}, 1, 5, 0, 2}, testScan{[]int{i}, 6, 63, 0, 2}, testScan{[]int{i}, 1, 63, 2, 1})
	}
	dc.high, dc.low = 1, 0
	scans = append(scans, dc)
	for i := range n {
		scans = append(scans, testScan{[]int{i}, 1, 63, 1, 0})
	}
	return scans
}

func (j *testJPEG) largest() (h, v int) {
	for _, s := range j.sampling {
		h, v = max(h, s>>4), max(v, s&15)
	}
	return h, v
}

// units returns the number of minimum coded units of an interleaved scan.
func (j *testJPEG) units() (across, down int) {
	h, v := j.largest()
	return (j.width + 8*h - 1) / (8 * h), (j.height + 8*v - 1) / (8 * v)
}

// unitBlocks returns the number of blocks in a unit of a scan. T.81 allows at most 10
// in a scan of several components.
func unitBlocks(sampling []int, s testScan) (blocks int) {
	if len(s.components) == 1 {
		return 1
	}
	for _, i := range s.components {
		blocks += sampling[i] >> 4 * (sampling[i] & 15)
	}
	return blocks
}

// size returns the size of component i in samples.
func (j *testJPEG) size(i int) (width, height int) {
	h, v := j.largest()
	return (j.width*(j.sampling[i]>>4) + h - 1) / h, (j.height*(j.sampling[i]&15) + v - 1) / v
}

// draw fills each component with a gradient and some structure, always the same.
func (j *testJPEG) draw() {
	random := rand.New(rand.NewPCG(5, uint64(j.width)))
	across, down := j.units()
	j.blocks = nil
	for i, s := range j.sampling {
		columns, rows := across*(s>>4), down*(s&15)
		blocks := make([][64]int, columns*rows)
		for at := range blocks {
			b := &blocks[at]
			x, y := float64(at%columns)/float64(columns), float64(at/columns)/float64(rows)
			if i%2 == 1 {
				x = 1 - x
			}
			b[0] = int(100*x + 80*y - 90) // of 8 in the transform's scale and 8 quantized
			for k := 1; k < 24; k++ {
				if random.IntN(3) == 0 {
					b[k] = random.IntN(41)/k - 20/k
				}
			}
		}
		j.blocks = append(j.blocks, blocks)
	}
}

// encode returns the file, and the offset at which each unit of each scan ends.
func (j *testJPEG) encode() (data []byte, ends [][]int) {
	if j.blocks == nil {
		j.draw()
	}
	out := []byte{0xff, 0xd8}
	segment := func(marker byte, payload ...byte) {
		out = append(out, 0xff, marker)
		out = binary.BigEndian.AppendUint16(out, uint16(len(payload)+2))
		out = append(out, payload...)
	}
	if j.adobe >= 0 {
		segment(0xee, append([]byte("Adobe\x00\x64\x00\x00\x00\x00"), byte(j.adobe))...)
	}
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{8}, 64)...)...)
	sof := []byte{8, byte(j.height >> 8), byte(j.height), byte(j.width >> 8), byte(j.width), byte(len(j.sampling))}
	for i, s := range j.sampling {
		sof = append(sof, byte(i+1), byte(s), 0)
	}
	if j.progressive {
		segment(0xc2, sof...)
	} else {
		segment(0xc0, sof...)
	}
	if !j.noTables {
		out = append(out, standardDHT()...)
	}
	if j.restart > 0 {
		segment(0xdd, byte(j.restart>>8), byte(j.restart))
	}
	for _, s := range j.script {
		sos := []byte{byte(len(s.components))}
		for _, i := range s.components {
			sos = append(sos, byte(i+1), byte(min(i, 1)*0x11))
		}
		segment(0xda, append(sos, byte(s.first), byte(s.last), byte(s.high<<4|s.low))...)
		w := &testBits{out: out}
		ends = append(ends, j.scan(w, s))
		out = w.out
	}
	return append(out, 0xff, 0xd9), ends
}

func (j *testJPEG) scan(w *testBits, s testScan) (ends []int) {
	across, down := j.units()
	unitsAcross := across
	alone := len(s.components) == 1
	if alone { // only the blocks that the image covers
		width, height := j.size(s.components[0])
		across, down = (width+7)/8, (height+7)/8
	}
	lastDC := make([]int, len(j.sampling))
	for n := range across * down {
		if j.restart > 0 && n > 0 && n%j.restart == 0 {
			w.flush()
			w.out = append(w.out, 0xff, 0xd0+byte((n/j.restart-1)%8))
			clear(lastDC)
		}
		for _, i := range s.components {
			h, v := j.sampling[i]>>4, j.sampling[i]&15
			stride := h * unitsAcross
			if alone {
				h, v = 1, 1
			}
			for k := range h * v {
				b := &j.blocks[i][(n/across*v+k/h)*stride+n%across*h+k%h]
				w.block(b, s, min(i, 1), &lastDC[i])
			}
		}
		ends = append(ends, len(w.out)+(w.n+7)/8)
	}
	w.flush()
	return ends
}

// testBits writes entropy-coded data.
type testBits struct {
	out []byte
	acc uint32
	n   int
}

func (w *testBits) put(v, n int) {
	for n--; n >= 0; n-- {
		w.acc = w.acc<<1 | uint32(v>>n&1)
		if w.n++; w.n == 8 {
			w.out = append(w.out, byte(w.acc))
			if byte(w.acc) == 0xff {
				w.out = append(w.out, 0)
			}
			w.acc, w.n = 0, 0
		}
	}
}

func (w *testBits) flush() {
	for w.n > 0 {
		w.put(1, 1)
	}
}

// value writes a symbol, whose lower half is the size of v, and then v.
func (w *testBits) value(table map[byte]testCode, run, v int) {
	size, abs := 0, max(v, -v)
	for ; abs>>size > 0; size++ {
	}
	w.symbol(table, run<<4|size)
	if v < 0 {
		v += 1<<size - 1
	}
	w.put(v, size)
}

func (w *testBits) symbol(table map[byte]testCode, symbol int) {
	c, ok := table[byte(symbol)]
	if !ok {
		panic("no such code")
	}
	w.put(c.code, c.length)
}

func (w *testBits) block(b *[64]int, s testScan, table int, lastDC *int) {
	dc, ac := standardCodes[2*table], standardCodes[2*table+1]
	first := s.first
	if first == 0 {
		if s.high > 0 {
			w.put(b[0]>>s.low&1, 1)
			return
		}
		v := b[0] >> s.low // rounded down, as negative numbers are
		w.value(dc, 0, v-*lastDC)
		*lastDC = v
		first++
	}
	if s.high > 0 {
		w.refine(b, s, ac)
		return
	}
	run := 0
	for k := first; k <= s.last; k++ {
		v := shifted(b[k], s.low)
		if v == 0 {
			run++
			continue
		}
		for ; run > 15; run -= 16 {
			w.symbol(ac, 0xf0)
		}
		w.value(ac, run, v)
		run = 0
	}
	if run > 0 {
		w.symbol(ac, 0)
	}
}

// shifted divides by 1<<low and rounds toward 0, as T.81 says for AC coefficients.
func shifted(v, low int) int {
	if v < 0 {
		return -(-v >> low)
	}
	return v >> low
}

// refine writes one more bit of a block's coefficients (T.81, G.1.2.3).
func (w *testBits) refine(b *[64]int, s testScan, ac map[byte]testCode) {
	run := 0
	var corrections []int // bits of those that were not 0 before
	flush := func() {
		for _, bit := range corrections {
			w.put(bit, 1)
		}
		corrections = nil
	}
	last := s.first - 1 // the last that becomes other than 0
	for k := s.first; k <= s.last; k++ {
		if v := shifted(b[k], s.low); v == 1 || v == -1 {
			last = k
		}
	}
	for k := s.first; k <= s.last; k++ {
		v := shifted(b[k], s.low)
		for run > 15 && v != 0 && k <= last {
			w.symbol(ac, 0xf0)
			flush()
			run -= 16
		}
		switch v {
		case 0:
			run++
		case 1, -1:
			w.symbol(ac, run<<4|1)
			w.put(max(v, 0), 1)
			flush()
			run = 0
		default:
			corrections = append(corrections, max(v, -v)&1)
		}
	}
	if run > 0 || len(corrections) > 0 {
		w.symbol(ac, 0)
		flush()
	}
}

type testCode struct{ code, length int }

// standardCodes are the codes of the standard tables: luma DC, luma AC, chroma DC,
// chroma AC.
var standardCodes = func() (codes []map[byte]testCode) {
	for table := range huffmanTables(slices.Concat([]byte{0xff, 0xd8}, standardDHT())) {
		symbols, code := table[17:], 0
		m := map[byte]testCode{}
		for length, count := range table[1:17] {
			for range count {
				m[symbols[0]] = testCode{code, length + 1}
				symbols = symbols[1:]
				code++
			}
			code <<= 1
		}
		codes = append(codes, m)
	}
	return codes
}()

// standardDHT returns segments with the standard tables, which image/jpeg writes.
func standardDHT() (segments []byte) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, image.NewNRGBA(image.Rect(0, 0, 1, 1)), nil); err != nil {
		panic(err)
	}
	for data := buf.Bytes()[2:]; data[1] != 0xda; {
		size := 2 + int(binary.BigEndian.Uint16(data[2:]))
		if data[1] == 0xc4 {
			segments = append(segments, data[:size]...)
		}
		data = data[size:]
	}
	return segments
}

// huffmanTables returns the Huffman tables of a JPEG: class and number, 16 counts, and the
// symbols, as far as the file has them.
func huffmanTables(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for marker, p := range segments(data) {
			for marker == 0xc4 && len(p) >= 17 {
				n := 17
				for _, count := range p[1:17] {
					n += int(count)
				}
				n = min(n, len(p))
				if !yield(p[:n]) {
					return
				}
				p = p[n:]
			}
		}
	}
}

// component returns the samples that image/jpeg decodes from component i alone.
func (j *testJPEG) component(t testing.TB, i int) plane {
	t.Helper()
	width, height := j.size(i)
	alone := &testJPEG{width: width, height: height, sampling: []int{0x11}, script: interleaved(1), adobe: -1}
	columns, stride := (width+7)/8, (j.sampling[i] >> 4)
	across, _ := j.units()
	stride *= across
	alone.blocks = [][][64]int{nil}
	for y := range (height + 7) / 8 {
		alone.blocks[0] = append(alone.blocks[0], j.blocks[i][y*stride:][:columns]...)
	}
	data, _ := alone.encode()
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return planesOf(img)[0]
}
