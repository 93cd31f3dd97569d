"""Makes pictures with Pillow and libvips, and says how these two read pictures.

decoders.py make PHOTO DIR   writes the variants of PHOTO into DIR
decoders.py read FILE...     prints a line of JSON for each file
"""

import concurrent.futures
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import warnings

from PIL import Image, ImageOps, ImageStat

warnings.simplefilter("ignore")
Image.MAX_IMAGE_PIXELS = None
SIZE = (161, 203)
FORMATS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}


def weighed(means):
    """The luminance of mean colors, which is the mean of their luminance."""
    if len(means) < 3:
        return means[0]
    return 0.299 * means[0] + 0.587 * means[1] + 0.114 * means[2]


def pillow(path):
    with Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        result = {"width": image.width, "height": image.height}
        if image.mode.startswith("I"):  # 16 bits of gray
            values = list(image.convert("I").getdata())
            result["mean"] = sum(values) / len(values) / 257
        elif image.mode not in ("F", "LAB"):
            # Colors multiplied by alpha: on black.
            image = image.convert("RGBA").convert("RGBa")
            result["mean"] = weighed(ImageStat.Stat(image).mean)
        return result


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip() or "failed").splitlines()[0])
    return done.stdout


def vips(path):
    with tempfile.TemporaryDirectory() as scratch:
        header = {}
        for line in run("vipsheader", "-a", path).splitlines()[1:]:
            name, _, value = line.partition(":")
            header[name] = value.strip()
        result = {"width": int(header["width"]), "height": int(header["height"])}
        if int(header.get("orientation", 1)) >= 5:
            result = {"width": result["height"], "height": result["width"]}
        bands, kind, form = int(header["bands"]), header["interpretation"], header["format"]
        source = path
        if (kind, bands) in (("srgb", 4), ("rgb", 4), ("rgb16", 4), ("b-w", 2), ("grey16", 2)):
            source = os.path.join(scratch, "flat.v")
            run("vips", "flatten", path, source)
        stats = os.path.join(scratch, "stats.mat")
        run("vips", "stats", source, stats)  # which reads all of it
        if kind in ("srgb", "rgb", "rgb16", "b-w", "grey16") and form in ("uchar", "ushort"):
            with open(stats) as f:
                rows = f.read().splitlines()[2:]  # behind the size, and all bands together
            means = [float(row.split()[4]) for row in rows]
            result["mean"] = weighed(means) / (257 if form == "ushort" else 1)
        return result


def read(path):
    answer = {"file": path}
    for name, decode in (("pillow", pillow), ("vips", vips)):
        try:
            answer[name] = decode(path)
        except Exception as error:  # whatever it is, it is not read
            answer[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return answer


class Maker:
    def __init__(self, photo, folder):
        self.folder = folder
        self.random = random.Random(1)
        rgb = Image.open(photo).convert("RGB").resize(SIZE)
        alpha = Image.linear_gradient("L").resize(SIZE)
        rgba = rgb.copy()
        rgba.putalpha(alpha)
        gray = rgb.convert("L")
        la = gray.copy()
        la.putalpha(alpha)
        wide = Image.new("I;16", SIZE)
        wide.putdata([v * 257 for v in gray.getdata()])
        self.images = {
            "1": rgb.convert("1"),
            "L": gray,
            "LA": la,
            "P": rgb.quantize(200),
            "RGB": rgb,
            "RGBA": rgba,
            "CMYK": rgb.convert("CMYK"),
            "YCbCr": rgb.convert("YCbCr"),
            "I;16": wide,
            "F": gray.convert("F"),
        }

    def write(self, name, data):
        with open(os.path.join(self.folder, name), "wb") as f:
            f.write(data)

    def save(self, name, mode, **options):
        """Writes with Pillow, unless it does not know how."""
        data = io.BytesIO()
        try:
            self.images[mode].save(data, FORMATS[name.rpartition(".")[2]], **options)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{name} is not made: {error}", file=sys.stderr)
            return None
        self.write(name, data.getvalue())
        return data.getvalue()

    def all(self):
        self.jpeg()
        self.png()
        self.gif()
        self.bmp()
        self.tiff()
        self.webp()
        self.vips()

    def jpeg(self):
        for mode in ("L", "RGB", "CMYK"):
            for progressive in (False, True):
                for subsampling in (0, 1, 2):
                    for quality in (10, 90):
                        name = f"jpeg_{mode}_{'progressive' if progressive else 'baseline'}_{subsampling}_{quality}.jpg"
                        self.save(name, mode, quality=quality, subsampling=subsampling, progressive=progressive)
        self.save("jpeg_optimized.jpg", "RGB", optimize=True)
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x112] = orientation
            for subsampling in (0, 1, 2):
                self.save(f"jpeg_orientation_{orientation}_{subsampling}.jpg", "RGB", exif=exif, subsampling=subsampling)
            for form in ("png", "webp", "tif"):
                options = {"lossless": True} if form == "webp" else {}
                self.save(f"{form}_orientation_{orientation}.{form}", "RGB", exif=exif, **options)
        self.orientations()

    def orientations(self):
        """EXIF directories with what there should not be in them."""
        def entry(tag, kind, count, value):
            return struct.pack(">HHI", tag, kind, count) + value

        for kind in list(range(0, 14)) + [77, 65535]:
            width = {1: 1, 6: 1, 3: 2, 8: 2}.get(kind, 4)
            value = (6).to_bytes(width, "big").ljust(4, b"\0")
            for where, entries in (
                ("own", [entry(0x112, kind, 1, value)]),
                ("before", [entry(0x10F, kind, 1, value), entry(0x112, 3, 1, b"\0\6\0\0")]),
                ("behind", [entry(0x112, 3, 1, b"\0\6\0\0"), entry(0x131, kind, 1, value)]),
            ):
                tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
                self.save(f"exif_{where}_{kind}.jpg", "RGB", exif=b"Exif\0\0" + tiff)

    def png(self):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
            self.save(f"png_{mode.replace(';', '')}.png", mode)
        for bits in (1, 2, 4, 8):
            self.images["few"] = self.images["RGB"].quantize(1 << bits)
            self.save(f"png_P_{bits}.png", "few", bits=bits)
            self.save(f"png_P_{bits}_transparent.png", "few", bits=bits, transparency=bytes(255 * i >> bits for i in range(1 << bits)))
        self.save("png_L_tRNS.png", "L", transparency=self.images["L"].getpixel((80, 100)))
        self.save("png_RGB_tRNS.png", "RGB", transparency=self.images["RGB"].getpixel((80, 100)))
        for level in (0, 1, 9):
            self.save(f"png_level_{level}.png", "RGB", compress_level=level)
        data = self.save("png_whole.png", "RGB")
        for name, cut in (("no_iend", -12), ("no_crc", -16), ("half", len(data) // 2), ("most", len(data) * 9 // 10)):
            self.write(f"png_cut_{name}.png", data[:cut])

    def gif(self):
        for mode in ("1", "L", "P", "RGB", "RGBA"):
            for interlace in (0, 1):
                self.save(f"gif_{mode}_{interlace}.gif", mode, interlace=interlace)
        self.save("gif_transparent.gif", "P", transparency=7)
        frames = [self.images["P"].rotate(90 * i) for i in range(1, 4)]
        data = self.save("gif_animated.gif", "P", save_all=True, append_images=frames, duration=100, loop=0)
        self.write("gif_cut_in_a_later_frame.gif", data[: len(data) * 9 // 10])
        data = self.save("gif_whole.gif", "P")
        self.write("gif_no_trailer.gif", data[:-1])
        self.write("gif_cut_most.gif", data[: len(data) * 9 // 10])
        at = 13 + 3 * 256 if data[10] & 7 == 7 else None
        if at:
            self.write("gif_stray.gif", data[:at] + b"\0" + data[at:])
            self.write("gif_screen_0.gif", data[:6] + bytes(4) + data[10:])
            self.write("gif_screen_small.gif", data[:6] + struct.pack("<HH", 100, 100) + data[10:])
            self.write("gif_screen_large.gif", data[:6] + struct.pack("<HH", 200, 300) + data[10:])

    def bmp(self):
        for mode in ("1", "L", "P", "RGB", "RGBA"):
            self.save(f"bmp_{mode}.bmp", mode)
        width, height = SIZE
        pixels = list(self.images["RGB"].transpose(Image.Transpose.FLIP_TOP_BOTTOM).getdata())

        def made(size, bits, compression, between, rows, colors=0, up=1, reserved=0):
            header = struct.pack("<IiiHHIIiiII", 40, width, up * height, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
            if size > 40:
                header = struct.pack("<I", size) + header[4:] + between[: size - 40]
                between = between[size - 40 :]
                header += bytes(size - len(header))
            offset = 14 + size + len(between)
            return b"BM" + struct.pack("<IHHI", offset + len(rows), reserved, reserved, offset) + header + between + rows

        def packed(bytes_each, pack):
            row = width * bytes_each
            out = bytearray()
            for y in range(height):
                for pixel in pixels[y * width : (y + 1) * width]:
                    out += pack(*pixel).to_bytes(bytes_each, "little")
                out += bytes(-row % 4)
            return bytes(out)

        rgb555 = packed(2, lambda r, g, b: r >> 3 << 10 | g >> 3 << 5 | b >> 3)
        rgb565 = packed(2, lambda r, g, b: r >> 3 << 11 | g >> 2 << 5 | b >> 3)
        xrgb = packed(4, lambda r, g, b: r << 16 | g << 8 | b)
        argb = packed(4, lambda r, g, b: 0xFF << 24 | r << 16 | g << 8 | b)
        half = packed(4, lambda r, g, b: 0x80 << 24 | r << 16 | g << 8 | b)
        m555 = struct.pack("<III", 0x7C00, 0x3E0, 0x1F)
        m565 = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
        m888 = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
        m8888 = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        for size in (40, 108, 124):
            self.write(f"bmp_{size}_555.bmp", made(size, 16, 0, b"", rgb555))
            self.write(f"bmp_{size}_555_masks.bmp", made(size, 16, 3, m555, rgb555))
            self.write(f"bmp_{size}_565.bmp", made(size, 16, 3, m565, rgb565))
            self.write(f"bmp_{size}_32.bmp", made(size, 32, 0, b"", xrgb))
            self.write(f"bmp_{size}_32_opaque.bmp", made(size, 32, 0, b"", argb))
            self.write(f"bmp_{size}_32_reserved.bmp", made(size, 32, 0, b"", half))
            self.write(f"bmp_{size}_888_masks.bmp", made(size, 32, 3, m888, xrgb))
            if size > 40:
                self.write(f"bmp_{size}_8888_masks.bmp", made(size, 32, 3, m8888, argb))
                self.write(f"bmp_{size}_8888_masks_zero.bmp", made(size, 32, 3, m8888, xrgb))
                self.write(f"bmp_{size}_8888_masks_half.bmp", made(size, 32, 3, m8888, half))
        indices = list(self.images["P"].transpose(Image.Transpose.FLIP_TOP_BOTTOM).getdata())
        palette = self.images["P"].getpalette()
        palette += [0] * (768 - len(palette))
        table = b"".join(bytes((palette[i + 2], palette[i + 1], palette[i], 0)) for i in range(0, 768, 3))
        runs, literal = bytearray(), bytearray()
        for y in range(height):
            row = indices[y * width : (y + 1) * width]
            for index in row:
                runs += bytes((1, index))
            literal += bytes((0, width)) + bytes(row) + bytes(width % 2)
            runs += b"\0\0"
            literal += b"\0\0"
        for name, rows in (("runs", runs), ("literal", literal)):
            self.write(f"bmp_rle8_{name}.bmp", made(40, 8, 1, table, bytes(rows) + b"\0\1"))
        few = self.images["RGB"].quantize(16).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        palette = few.getpalette()[:48]
        palette += [0] * (48 - len(palette))
        table16 = b"".join(bytes((palette[i + 2], palette[i + 1], palette[i], 0)) for i in range(0, 48, 3))
        indices = list(few.getdata())
        runs, four = bytearray(), bytearray()
        for y in range(height):
            row = indices[y * width : (y + 1) * width] + [0]
            for x in range(0, width, 2):
                pair = row[x] << 4 | row[x + 1]
                runs += bytes((min(2, width - x), pair))
                four.append(pair)
            four += bytes(-len(four) % 4)
            runs += b"\0\0"
        self.write("bmp_rle4.bmp", made(40, 4, 2, table16, bytes(runs) + b"\0\1"))
        self.write("bmp_4.bmp", made(40, 4, 0, table16, bytes(four)))
        self.write("bmp_from_the_top.bmp", made(40, 16, 0, b"", rgb555, up=-1))
        self.write("bmp_reserved.bmp", made(40, 16, 0, b"", rgb555, reserved=77))
        self.write("bmp_cut_most.bmp", made(40, 16, 0, b"", rgb555)[: len(rgb555) * 9 // 10])

    def tiff(self):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"):
            for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "group3", "group4", "tiff_ccitt", "zstd"):
                fax = compression in ("group3", "group4", "tiff_ccitt")
                if fax and mode != "1" or compression == "jpeg" and mode in ("1", "P", "I;16", "F"):
                    continue
                name = f"tiff_{mode.replace(';', '')}_{compression or 'raw'}"
                self.save(name + ".tif", mode, compression=compression)
                if compression in ("tiff_lzw", "tiff_adobe_deflate") and mode in ("L", "RGB", "RGBA", "CMYK"):
                    self.save(name + "_predictor.tif", mode, compression=compression, tiffinfo={317: 2})
        for rows in (1, 7, 1000):
            self.save(f"tiff_strips_{rows}.tif", "RGB", compression="tiff_lzw", tiffinfo={278: rows})
        data = self.save("tiff_whole.tif", "RGB", compression="tiff_lzw")
        self.write("tiff_cut_half.tif", data[: len(data) // 2])

    def webp(self):
        for mode in ("L", "RGB", "RGBA"):
            for lossless in (False, True):
                for quality in (5, 75):
                    self.save(f"webp_{mode}_{'lossless' if lossless else 'lossy'}_{quality}.webp", mode, lossless=lossless, quality=quality)
            for method in (0, 6):
                for quality in (0, 40, 100):
                    self.save(f"webp_{mode}_method_{method}_{quality}.webp", mode, method=method, quality=quality)
        frames = [self.images["RGB"].rotate(90)]
        self.save("webp_animated.webp", "RGB", save_all=True, append_images=frames, duration=100)

    def vips(self):
        """What Pillow does not write: interlacing, tiles, two and four bits, sixteen bits of color."""
        rgb, gray, rgba = (os.path.join(self.folder, f"png_{mode}.png") for mode in ("RGB", "L", "RGBA"))
        with tempfile.TemporaryDirectory() as scratch:
            wide = {}
            for name, source in (("RGB", rgb), ("L", gray), ("RGBA", rgba)):
                wide[name] = os.path.join(scratch, name + ".v")
                run("vips", "colourspace", source, wide[name], "grey16" if name == "L" else "rgb16")
            jobs = []

            def job(command, name, source, *options):
                jobs.append(("vips", command, source, os.path.join(self.folder, name), *options))

            for name, source in (("RGB", rgb), ("L", gray), ("RGBA", rgba)):
                job("pngsave", f"vips_{name}_interlaced.png", source, "--interlace")
                job("pngsave", f"vips_{name}_16.png", wide[name], "--bitdepth", "16")
                job("pngsave", f"vips_{name}_16_interlaced.png", wide[name], "--bitdepth", "16", "--interlace")
                for filters in ("none", "sub", "up", "avg", "paeth"):
                    job("pngsave", f"vips_{name}_{filters}.png", source, "--filter", filters)
                for compression in ("none", "lzw", "deflate", "packbits"):
                    tile = ("--tile", "--tile-width", "64", "--tile-height", "48")
                    job("tiffsave", f"vips_{name}_{compression}_tiled.tif", source, "--compression", compression, *tile)
                    job("tiffsave", f"vips_{name}_{compression}_16.tif", wide[name], "--compression", compression)
                    job("tiffsave", f"vips_{name}_{compression}_16_tiled.tif", wide[name], "--compression", compression, *tile)
                    for predictor in ("none", "horizontal"):
                        if compression in ("lzw", "deflate"):
                            job("tiffsave", f"vips_{name}_{compression}_{predictor}.tif", source, "--compression", compression, "--predictor", predictor)
                if name != "RGBA":
                    job("tiffsave", f"vips_{name}_jpeg.tif", source, "--compression", "jpeg", "--Q", "90")
                    job("tiffsave", f"vips_{name}_jpeg_tiled.tif", source, "--compression", "jpeg", "--tile", "--Q", "90")
            for bits in (1, 2, 4):
                job("pngsave", f"vips_P_{bits}.png", rgb, "--palette", "--bitdepth", str(bits))
                job("pngsave", f"vips_P_{bits}_interlaced.png", rgb, "--palette", "--bitdepth", str(bits), "--interlace")
                job("pngsave", f"vips_L_{bits}.png", gray, "--bitdepth", str(bits))
                job("tiffsave", f"vips_L_{bits}.tif", gray, "--bitdepth", str(bits))
                job("tiffsave", f"vips_L_{bits}_white_is_zero.tif", gray, "--bitdepth", str(bits), "--miniswhite")
            job("tiffsave", "vips_white_is_zero.tif", gray, "--miniswhite")
            job("tiffsave", "vips_fax4.tif", gray, "--bitdepth", "1", "--compression", "ccittfax4")
            job("tiffsave", "vips_fax4_white_is_zero.tif", gray, "--bitdepth", "1", "--compression", "ccittfax4", "--miniswhite")
            job("tiffsave", "vips_pyramid.tif", rgb, "--tile", "--pyramid", "--tile-width", "64", "--tile-height", "64")
            job("tiffsave", "vips_pyramid_below.tif", rgb, "--tile", "--pyramid", "--subifd", "--tile-width", "64", "--tile-height", "64")
            job("tiffsave", "vips_big.tif", rgb, "--bigtiff")
            for subsample in ("on", "off"):
                job("jpegsave", f"vips_{subsample}.jpg", rgb, "--subsample-mode", subsample)
                job("jpegsave", f"vips_{subsample}_interlaced.jpg", rgb, "--subsample-mode", subsample, "--interlace", "--optimize-scans", "--trellis-quant")
                job("jpegsave", f"vips_{subsample}_restart.jpg", rgb, "--subsample-mode", subsample, "--restart-interval", "3")
                job("jpegsave", f"vips_{subsample}_restart_interlaced.jpg", rgb, "--subsample-mode", subsample, "--interlace", "--restart-interval", "3")
            job("webpsave", "vips_near_lossless.webp", rgb, "--near-lossless")
            for preset in ("picture", "photo", "drawing", "icon", "text"):  # other filters and segments
                job("webpsave", f"vips_{preset}.webp", rgb, "--preset", preset, "--Q", "30", "--effort", "6")
            job("webpsave", "vips_alpha.webp", rgba, "--alpha-q", "50")
            job("gifsave", "vips.gif", rgb)
            job("gifsave", "vips_alpha.gif", rgba)

            def do(args):
                try:
                    run(*args)
                except RuntimeError as error:
                    print(f"{os.path.basename(args[3])} is not made: {error}", file=sys.stderr)

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(do, jobs))


def main():
    if sys.argv[1] == "make":
        Maker(sys.argv[2], sys.argv[3]).all()
        return
    # Processes, not threads: where libtiff fails, Pillow closes a file a second time, which by then
    # may be another thread's pipe.
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        for answer in pool.map(read, sys.argv[2:], chunksize=8):
            print(json.dumps(answer))


if __name__ == "__main__":
    main()
