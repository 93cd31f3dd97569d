package photo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math"
	"slices"
)

// TIFF tags (TIFF 6.0, and the DNG specification for the last).
const (
	tiffNewSubfileType   = 254
	tiffImageWidth       = 256
	tiffImageLength      = 257
	tiffBitsPerSample    = 258
	tiffCompression      = 259
	tiffPhotometric      = 262
	tiffFillOrder        = 266
	tiffStripOffsets     = 273
	tiffOrientation      = 274
	tiffSamplesPerPixel  = 277
	tiffRowsPerStrip     = 278
	tiffStripByteCounts  = 279
	tiffPlanarConfig     = 284
	tiffT4Options        = 292
	tiffPredictor        = 317
	tiffColorMap         = 320
	tiffTileWidth        = 322
	tiffTileLength       = 323
	tiffTileOffsets      = 324
	tiffTileByteCounts   = 325
	tiffSubIFDs          = 330
	tiffExtraSamples     = 338
	tiffSampleFormat     = 339
	tiffJPEGTables       = 347
	tiffYCbCrSubSampling = 530
	tiffReferenceBW      = 532
	tiffDNGVersion       = 50706
)

// Types of TIFF values.
const (
	tiffByte, tiffShort, tiffLong, tiffUndefined = 1, 3, 4, 7
	tiffSignedByte                               = 6
	tiffSignedShort, tiffSignedLong              = 8, 9
)

// Values of the tag Compression.
const (
	tiffNone       = 1
	tiffGroup3     = 3
	tiffGroup4     = 4
	tiffLZW        = 5
	tiffJPEG       = 7
	tiffDeflate    = 8
	tiffDeflateOld = 32946
	tiffPackBits   = 32773
)

// tiffCompressions maps the unsupported compressions to their names.
var tiffCompressions = map[int64]string{
	2: "CCITT run lengths", 6: "JPEG as in TIFF 6.0", 32766: "NeXT", 32809: "ThunderScan",
	34661: "JBIG", 34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC",
	34892: "lossy JPEG of DNG", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
}

// Values of the tag PhotometricInterpretation.
const (
	tiffWhiteIsZero = 0
	tiffBlackIsZero = 1
	tiffRGB         = 2
	tiffPalette     = 3
	tiffCMYK        = 5
	tiffYCbCr       = 6
	tiffCFA         = 32803 // color filter array: unprocessed data of a camera's sensor
	tiffLinearRaw   = 34892
)

var tiffPhotometrics = map[int64]string{4: "a transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "SGI LogL", 32845: "SGI LogLuv"}

// maxBlocks is the maximum number of strips or tiles in a TIFF, because each of them
// sets up a decompressor of 50 KB. It allows strips of one row, and tiles of 32×32 in
// 64 megapixels.
const maxBlocks = 1 << 16

// tiffFile has what the first directory of a TIFF says about its image.
type tiffFile struct {
	tiffDirectory
	width, height            int
	bits                     int // per sample
	samples                  int // per pixel
	compression, photometric int64
	// separate means that each sample has its own strips or tiles (PlanarConfiguration
	// 2).
	separate bool
	// alpha is the index of the alpha sample, or 0 if there is none. premultiplied
	// means that the colors are multiplied by it.
	alpha         int
	premultiplied bool
	predict       bool // horizontal differencing
	reversed      bool // the lowest bit of a byte comes first (FillOrder 2)
	// subX and subY are the number of luma samples for each chroma sample, horizontally
	// and vertically.
	subX, subY int
	palette    color.Palette
	jpegTables []byte

	tiled                   bool
	blockWidth, blockHeight int
	across, down            int // number of blocks
	offsets, counts         tiffValues
}

func openTIFF(data []byte) (header, error) {
	if matches(data, "II*?????CR") {
		return header{}, unsupported("camera raw (Canon's CR2)")
	}
	d, err := readTIFFDirectory(data)
	if err != nil {
		return header{}, err
	}
	if raw := d.cameraRaw(); raw != "" {
		return header{}, unsupported(raw)
	}
	f := &tiffFile{tiffDirectory: d}
	if err := f.readSize(); err != nil {
		return header{}, err
	}
	h := header{width: f.width, height: f.height, exif: data}
	if int64(f.width)*int64(f.height) > math.MaxInt32 {
		return h, nil // Open rejects this size, and the code below could overflow
	}
	if err := f.readColors(); err != nil {
		return header{}, err
	}
	if err := f.readBlocks(); err != nil {
		return header{}, err
	}
	if err := f.estimate(&h); err != nil {
		return header{}, err
	}
	h.decode = func(ctx context.Context) (image.Image, error) {
		return catchPanics(func() (image.Image, error) { return decodeTIFF(ctx, f) })
	}
	return h, nil
}

// cameraRaw returns the name of the format if the file is a raw file of a camera, and
// "" otherwise. In such a TIFF the first image is a small preview, and the full image
// needs raw processing.
func (d tiffDirectory) cameraRaw() string {
	const reduced = 1
	photometric := d.firstNumber(tiffPhotometric)
	switch {
	case d.entry(tiffDNGVersion) != nil:
		return "camera raw (DNG)"
	case photometric == tiffCFA, photometric == tiffLinearRaw,
		d.firstNumber(tiffNewSubfileType)&reduced != 0 && d.entry(tiffSubIFDs) != nil:
		return "camera raw"
	}
	return ""
}

func (f *tiffFile) readSize() error {
	width, height := f.firstNumber(tiffImageWidth), f.firstNumber(tiffImageLength)
	if width > math.MaxInt32 || height > math.MaxInt32 {
		// Clamp to values that are still too large, and whose product does not
		// overflow.
		width, height = min(width, math.MaxInt32), min(height, math.MaxInt32)
	}
	f.width, f.height = int(width), int(height)
	if width == 0 || height == 0 {
		return fmt.Errorf("%d×%d pixels", width, height)
	}
	return nil
}

func tiffFeature(format string, a ...any) error {
	return fmt.Errorf("%w: this TIFF has an unsupported feature: %s", ErrUnsupportedFormat, fmt.Sprintf(format, a...))
}

// readColors reads what the samples mean and how they are compressed.
func (f *tiffFile) readColors() error {
	if err := f.readCompression(); err != nil {
		return err
	}
	if err := f.readSamples(); err != nil {
		return err
	}
	colors, err := f.readPhotometric()
	if err != nil {
		return err
	}
	if err := f.readLayout(); err != nil {
		return err
	}
	if err := f.readCompressionOptions(colors); err != nil {
		return err
	}
	if f.photometric != tiffYCbCr {
		return nil
	}
	if f.separate || f.samples != 3 {
		return tiffFeature("Y'CbCr of %d samples, in separate planes: %v", f.samples, f.separate)
	}
	if f.compression == tiffJPEG {
		return nil // the header of the JPEG has the subsampling
	}
	return f.readSubsampling()
}

func (f *tiffFile) readCompression() error {
	f.compression = max(tiffNone, f.firstNumber(tiffCompression)) // some programs omit the tag
	switch f.compression {
	case tiffNone, tiffGroup3, tiffGroup4, tiffLZW, tiffJPEG, tiffDeflate, tiffDeflateOld, tiffPackBits:
		return nil
	}
	if name, ok := tiffCompressions[f.compression]; ok {
		return tiffFeature("compression %d (%s)", f.compression, name)
	}
	return tiffFeature("compression %d", f.compression)
}

// readSamples reads the number of samples for each pixel, and the number of bits for
// each sample.
func (f *tiffFile) readSamples() error {
	bits := f.firstNumbers(tiffBitsPerSample, 16)
	if len(bits) == 0 {
		bits = []int64{1} // the default of the specification
	}
	for _, b := range bits {
		if b != bits[0] {
			return tiffFeature("BitsPerSample of %d and %d in one pixel", bits[0], b)
		}
	}
	for _, format := range f.firstNumbers(tiffSampleFormat, 16) {
		switch format {
		case 2:
			return tiffFeature("SampleFormat 2 (signed integers)")
		case 3, 5, 6:
			return tiffFeature("SampleFormat %d (floating point or complex)", format)
		}
	}
	f.bits = int(min(bits[0], 1<<16))
	f.samples = int(min(f.firstNumber(tiffSamplesPerPixel), 1<<16))
	if f.samples == 0 {
		f.samples = len(bits)
	}
	return nil
}

// tiffColors has, for each supported PhotometricInterpretation, how many samples are
// colors, and which BitsPerSample are supported: in pixels of one sample, and in pixels
// of several.
var tiffColors = map[int64]struct {
	colors        int
	single, multi []int
}{
	tiffWhiteIsZero: {1, []int{1, 2, 4, 8, 16}, []int{8, 16}},
	tiffBlackIsZero: {1, []int{1, 2, 4, 8, 16}, []int{8, 16}},
	tiffPalette:     {1, []int{1, 2, 4, 8}, []int{8}},
	tiffRGB:         {3, nil, []int{8, 16}},
	tiffCMYK:        {4, nil, []int{8, 16}},
	tiffYCbCr:       {3, nil, []int{8}},
}

// readPhotometric reads what the samples mean. colors is the number of samples that are
// colors; all others are extra samples.
func (f *tiffFile) readPhotometric() (colors int, err error) {
	f.photometric = f.firstNumber(tiffPhotometric)
	f.subX, f.subY = 1, 1
	kind, ok := tiffColors[f.photometric]
	if !ok {
		if name, ok := tiffPhotometrics[f.photometric]; ok {
			return 0, tiffFeature("PhotometricInterpretation %d (%s)", f.photometric, name)
		}
		return 0, tiffFeature("PhotometricInterpretation %d", f.photometric)
	}
	if f.photometric == tiffPalette {
		if err := f.readPalette(); err != nil {
			return 0, err
		}
	}
	const maxSamples = 32
	if f.samples < kind.colors || f.samples > maxSamples {
		return 0, fmt.Errorf("%d samples per pixel, but PhotometricInterpretation %d needs %d", f.samples, f.photometric, kind.colors)
	}
	if f.bits == 0 {
		return 0, errors.New("BitsPerSample of 0")
	}
	allowed := kind.multi
	if f.samples == 1 {
		allowed = kind.single
	}
	if !slices.Contains(allowed, f.bits) {
		return 0, tiffFeature("BitsPerSample of %d with %d samples of PhotometricInterpretation %d", f.bits, f.samples, f.photometric)
	}
	if f.photometric != tiffPalette && f.photometric != tiffCMYK {
		f.readAlpha(kind.colors)
	}
	return kind.colors, nil
}

// readAlpha finds the extra sample that is alpha. Extra samples without a description
// are not.
func (f *tiffFile) readAlpha(colors int) {
	for i, kind := range f.firstNumbers(tiffExtraSamples, f.samples-colors) {
		if kind == 1 || kind == 2 {
			f.alpha, f.premultiplied = colors+i, kind == 1
			return
		}
	}
}

// readLayout reads the order of samples and bits.
func (f *tiffFile) readLayout() error {
	switch f.firstNumber(tiffPlanarConfig) {
	case 0, 1:
	case 2:
		f.separate = f.samples > 1
	default:
		return fmt.Errorf("PlanarConfiguration %d", f.firstNumber(tiffPlanarConfig))
	}
	switch f.firstNumber(tiffFillOrder) {
	case 0, 1:
	case 2:
		f.reversed = f.compression != tiffJPEG
	default:
		return fmt.Errorf("FillOrder %d", f.firstNumber(tiffFillOrder))
	}
	return nil
}

// readCompressionOptions reads the options of the compression, and checks that it
// supports the samples. colors is the number of samples that are colors.
func (f *tiffFile) readCompressionOptions(colors int) error {
	switch f.compression {
	case tiffLZW, tiffDeflate, tiffDeflateOld: // only these can have a predictor
		return f.readPredictor()
	case tiffGroup3, tiffGroup4:
		return f.checkFax()
	case tiffJPEG:
		if n := f.samples; f.bits != 8 || !f.separate && n != colors && !(f.photometric == tiffRGB && n == 4) {
			return tiffFeature("JPEG of %d samples of %d bits", n, f.bits)
		}
		f.jpegTables, _ = f.values(tiffJPEGTables)
	}
	return nil
}

func (f *tiffFile) readPredictor() error {
	switch p := f.firstNumber(tiffPredictor); p {
	case 0, 1:
	case 2:
		if f.bits < 8 || f.photometric == tiffYCbCr {
			return tiffFeature("Predictor 2 with %d bits a sample of PhotometricInterpretation %d", f.bits, f.photometric)
		}
		f.predict = true
	default:
		return tiffFeature("Predictor %d", p)
	}
	return nil
}

func (f *tiffFile) checkFax() error {
	if f.bits != 1 || f.samples != 1 {
		return fmt.Errorf("fax compression of %d samples of %d bits", f.samples, f.bits)
	}
	const twoDimensions, fillBits = 1, 4
	switch options := f.firstNumber(tiffT4Options); {
	case f.compression != tiffGroup3:
	case options&twoDimensions != 0:
		return tiffFeature("CCITT Group 3 in two dimensions")
	case options&fillBits != 0:
		return tiffFeature("CCITT Group 3 with fill bits")
	}
	return nil
}

func (f *tiffFile) readPalette() error {
	if f.bits > 8 {
		return nil // readPhotometric rejects this
	}
	n := 1 << f.bits
	values := f.firstNumbers(tiffColorMap, 3*n)
	if len(values) < 3*n {
		return fmt.Errorf("a ColorMap of %d values, but %d bits need %d", len(values), f.bits, 3*n)
	}
	f.palette = make(color.Palette, n)
	for i := range f.palette {
		f.palette[i] = color.RGBA64{uint16(values[i]), uint16(values[n+i]), uint16(values[2*n+i]), 0xffff}
	}
	return nil
}

func (f *tiffFile) readSubsampling() error {
	f.subX, f.subY = 2, 2 // the default of the specification
	if sub := f.firstNumbers(tiffYCbCrSubSampling, 2); len(sub) == 2 {
		f.subX, f.subY = int(min(sub[0], 1<<16)), int(min(sub[1], 1<<16))
	}
	if factors := []int{1, 2, 4}; !slices.Contains(factors, f.subX) || !slices.Contains(factors, f.subY) {
		return fmt.Errorf("YCbCrSubSampling of %d and %d", f.subX, f.subY)
	}
	return nil
}

// readBlocks finds the strips or tiles.
func (f *tiffFile) readBlocks() error {
	width, height := int64(f.width), int64(f.height)
	blockWidth, blockHeight := width, height
	offsets, counts := uint16(tiffStripOffsets), uint16(tiffStripByteCounts)
	if v := f.firstNumber(tiffRowsPerStrip); v > 0 {
		blockHeight = min(height, v)
	}
	if v := f.firstNumber(tiffTileWidth); v > 0 {
		f.tiled = true
		blockWidth, blockHeight = v, f.firstNumber(tiffTileLength)
		offsets, counts = tiffTileOffsets, tiffTileByteCounts
	}
	if blockHeight <= 0 {
		return errors.New("tiles without a height")
	}
	// The tags may contradict each other. Without this limit, tiles much larger than
	// the image would multiply the work at no cost to the sender.
	across, down := (width+blockWidth-1)/blockWidth, (height+blockHeight-1)/blockHeight
	planes := int64(1)
	if f.separate {
		planes = int64(f.samples)
	}
	if across > maxBlocks || down > maxBlocks || across*down*planes > maxBlocks {
		return fmt.Errorf("%d×%d strips or tiles, the limit is %d", across, down*planes, maxBlocks)
	}
	// A single tile may be larger than a small image, and the last tiles extend past
	// the edges.
	const maxTile = 1 << 16
	if blockWidth > max(width, maxTile) || blockHeight > max(height, maxTile) ||
		across*blockWidth*down*blockHeight > 16*width*height+1<<22 {
		return fmt.Errorf("tiles of %d×%d pixels are too large for an image of %d×%d", blockWidth, blockHeight, width, height)
	}
	f.blockWidth, f.blockHeight = int(blockWidth), int(blockHeight)
	f.across, f.down = int(across), int(down)
	f.offsets, f.counts = f.numbers(offsets), f.numbers(counts)
	if n := f.blocks(); f.offsets.len() < n {
		return fmt.Errorf("%d offsets for %d strips or tiles", f.offsets.len(), n)
	} else if f.counts.len() < n && f.compression != tiffNone && n > 1 {
		return fmt.Errorf("%d lengths for %d strips or tiles", f.counts.len(), n)
	}
	return nil
}

// planes returns the number of sets of blocks, each of which covers the image.
func (f *tiffFile) planes() int {
	if f.separate {
		return f.samples
	}
	return 1
}

func (f *tiffFile) blocks() int { return f.across * f.down * f.planes() }

// rows returns the number of rows of pixels in block i.
func (f *tiffFile) rows(i int) int {
	if f.tiled {
		return f.blockHeight
	}
	return min(f.blockHeight, f.height-i%f.down*f.blockHeight)
}

// rowBytes returns the length of a row of samples in a block. With subsampling it is
// the length of a row of units, each of which has subY rows of pixels.
func (f *tiffFile) rowBytes() int64 {
	if f.subX*f.subY > 1 {
		return int64(f.blockWidth+f.subX-1) / int64(f.subX) * int64(f.subX*f.subY+2)
	}
	samples := int64(f.samples)
	if f.separate {
		samples = 1
	}
	return (int64(f.blockWidth)*samples*int64(f.bits) + 7) / 8
}

// blockBytes returns the length of block i when decompressed.
func (f *tiffFile) blockBytes(i int) int64 {
	return f.rowBytes() * int64((f.rows(i)+f.subY-1)/f.subY)
}

// block returns the data of block i as far as the file has it. whole reports whether
// that is all of it.
func (f *tiffFile) block(i int) (data []byte, whole bool) {
	at, size := f.offsets.at(i), int64(len(f.data))
	switch {
	case f.compression == tiffNone: // the computed length is more reliable than the tag
		size = f.blockBytes(i)
	case i < f.counts.len():
		size = f.counts.at(i)
	}
	data = f.data[min(at, int64(len(f.data))):]
	if size > int64(len(data)) {
		// Without a length, the block extends to the end of the file.
		return data, f.compression != tiffNone && i >= f.counts.len()
	}
	return data[:size], true
}

// estimate computes the memory that decoding takes, and how many pixels the file can
// hold.
func (f *tiffFile) estimate(h *header) error {
	sum, largest, block, err := f.measureBlocks(h)
	if err != nil {
		return err
	}
	pixels := int64(f.width) * int64(f.height)
	h.capacity, h.orientMemory = math.MaxInt64, pixels*f.pixelBytes()
	switch f.compression {
	case tiffNone:
		if !f.reversed {
			block = 0
		}
	case tiffGroup3, tiffGroup4: // one bit may encode a whole row
		h.capacity = min(8*sum, int64(f.height)) * int64(f.width)
		block += 2 * int64(f.blockWidth)
	case tiffJPEG:
		first, err := f.openJPEG(0)
		if err != nil {
			return err
		}
		h.capacity = 8 * 64 * sum
		// Each block is decoded to an image of its own before its samples are copied.
		h.memory = (first.memory+int64(len(f.jpegTables)+32))*int64(f.blocks()) + sum
	default:
		bits := int64(f.bits * f.samples) // for each pixel
		if f.subX*f.subY > 1 {
			bits = 8 * int64(f.subX*f.subY+2) / int64(f.subX*f.subY)
		}
		ratio := tiffRatios[f.compression]
		h.capacity = sum * ratio * 8 / bits
		block = min(block, largest*ratio)
	}
	if f.photometric == tiffYCbCr && f.compression != tiffJPEG {
		block += 3 * int64(f.blockWidth) * int64(f.blockHeight+f.subY)
	}
	h.memory += h.orientMemory + block + 4*int64(f.blockWidth) + 128*int64(f.blocks())
	return nil
}

// tiffRatios is the maximum number of bytes that one compressed byte can expand to.
var tiffRatios = map[int64]int64{
	tiffLZW:        4096 * 8 / 12, // a code of 12 bits expands to at most 4096 bytes
	tiffDeflate:    deflateRatio,
	tiffDeflateOld: deflateRatio,
	tiffPackBits:   64, // two bytes become up to 128
}

// measureBlocks returns the length of all blocks together and of the largest one in the
// file, and the length of the largest one when decompressed. It sets h.truncated.
func (f *tiffFile) measureBlocks(h *header) (sum, largest, block int64, err error) {
	for i := range f.blocks() {
		data, whole := f.block(i)
		if !whole && f.compression == tiffNone && h.truncated == nil {
			h.truncated = f.truncated(i, int64(len(data)))
		}
		sum, largest, block = sum+int64(len(data)), max(largest, int64(len(data))), max(block, f.blockBytes(i))
		// Blocks that overlap in the file would multiply the work.
		if sum > int64(len(f.data)) {
			return 0, 0, 0, fmt.Errorf("the strips or tiles have more bytes than the file, which has %d", len(f.data))
		}
	}
	return sum, largest, block, nil
}

// pixelBytes returns the bytes that a pixel takes in the image that decodeTIFF makes.
func (f *tiffFile) pixelBytes() int64 {
	sampleBytes := int64(1)
	if f.bits == 16 && f.photometric != tiffCMYK {
		sampleBytes = 2
	}
	switch f.photometric {
	case tiffWhiteIsZero, tiffBlackIsZero:
		if f.alpha == 0 {
			return sampleBytes
		}
	case tiffPalette:
		return 1
	}
	return 4 * sampleBytes
}

// truncated returns the error for a file that ends after the first n bytes of block i.
func (f *tiffFile) truncated(i int, n int64) error {
	done, total := n, int64(0)
	for b := range f.blocks() {
		if b < i {
			done += f.blockBytes(b)
		}
		total += f.blockBytes(b)
	}
	return truncated(done, total)
}

// tiffDirectory is the first directory of a TIFF structure.
type tiffDirectory struct {
	data    []byte
	order   binary.ByteOrder
	entries []byte // 12 bytes each
}

// readTIFFDirectory finds the first directory. It leaves out entries past the end of
// the data.
func readTIFFDirectory(data []byte) (tiffDirectory, error) {
	d := tiffDirectory{data: data, order: binary.LittleEndian}
	if len(data) < 8 {
		return d, io.ErrUnexpectedEOF
	}
	switch string(data[:4]) {
	// Some programs write the number with swapped bytes in EXIF.
	case "II*\x00", "II\x00*":
	case "MM\x00*", "MM*\x00":
		d.order = binary.BigEndian
	default:
		return d, errors.New("not a TIFF structure")
	}
	at := int64(d.order.Uint32(data[4:]))
	if at > int64(len(data))-2 {
		return d, io.ErrUnexpectedEOF
	}
	entries := data[at+2:]
	d.entries = entries[:min(int64(d.order.Uint16(data[at:])), int64(len(entries))/12)*12]
	return d, nil
}

// entry returns the 12 bytes of a tag's entry, or nil if there is none.
func (d tiffDirectory) entry(tag uint16) []byte {
	for e := d.entries; len(e) > 0; e = e[12:] {
		if d.order.Uint16(e) == tag {
			return e[:12]
		}
	}
	return nil
}

// values returns the integers of a tag as bytes, and the size of each. Both are zero if
// the tag is missing or has another type. Values past the end of the file are left out.
func (d tiffDirectory) values(tag uint16) (values []byte, size int64) {
	e := d.entry(tag)
	if e == nil {
		return nil, 0
	}
	switch d.order.Uint16(e[2:]) {
	case tiffByte, tiffUndefined:
		size = 1
	case tiffShort:
		size = 2
	case tiffLong:
		size = 4
	default:
		return nil, 0
	}
	n := size * int64(d.order.Uint32(e[4:]))
	values = e[8:12]
	if n > 4 {
		values = d.data[min(int64(d.order.Uint32(values)), int64(len(d.data))):]
	}
	return values[:min(n, int64(len(values)))], size
}

// tiffValues are the integers of a tag.
type tiffValues struct {
	bytes []byte
	size  int64
	order binary.ByteOrder
}

func (d tiffDirectory) numbers(tag uint16) tiffValues {
	bytes, size := d.values(tag)
	return tiffValues{bytes, size, d.order}
}

func (v tiffValues) len() int {
	if v.size == 0 {
		return 0
	}
	return int(int64(len(v.bytes)) / v.size)
}

func (v tiffValues) at(i int) int64 {
	b := v.bytes[int64(i)*v.size:]
	switch v.size {
	case 1:
		return int64(b[0])
	case 2:
		return int64(v.order.Uint16(b))
	}
	return int64(v.order.Uint32(b))
}

// firstNumbers returns up to n of a tag's first numbers.
func (d tiffDirectory) firstNumbers(tag uint16, n int) []int64 {
	values := d.numbers(tag)
	list := make([]int64, min(n, values.len()))
	for i := range list {
		list[i] = values.at(i)
	}
	return list
}

// firstNumber returns the first number of a tag, or 0 if there is none.
func (d tiffDirectory) firstNumber(tag uint16) int64 {
	if v := d.numbers(tag); v.len() > 0 {
		return v.at(0)
	}
	return 0
}
