"""Runs YuNet independently of Mien, to compare with: reads images, writes JSON.

    python3 yunet_reference.py [--planes FOLDER] NETWORK FOLDER IMAGE...

prints a line about the network and the libraries, then one object an image of the
folder: file as given, and faces as [x1, y1, x2, y2, raw score, five times x and y],
in pixels of the image, the best first. Needs numpy, onnxruntime and Pillow.

    python3 yunet_reference.py --opencv [--planes FOLDER] NETWORK FOLDER IMAGE...

compares instead with OpenCV's FaceDetectorYN, on the same pixels in whole grey
levels, and prints how far the two are apart. Needs OpenCV (cv2) 5 besides.

Written from the paper (Wu et al. 2023), from what the networks of
libfacedetection.train give out, and from docs/accuracy.md, which describes the
passes over an image and their sizes. Long images, which a network of a fixed size
gets in tiles, are not supported.

The network moves boxes by pixels when gray levels change by a third, and no two
decoders of JPEG give the same: with --planes, what a decoder made of IMAGE is
read from FOLDER/IMAGE/0.png, 1.png and 2.png: Y, Cb and Cr, each in the size it
has in the file. An image that has no such folder is left to Pillow.
"""

import argparse
import hashlib
import json
import math
import os

import numpy as np
import onnxruntime
import PIL
from PIL import Image

# Of a network of any input size: the side of the image in a pass, and the longer
# sides of the faces that it is for, the smaller ones in pixels of the finest. The
# side of an image is the longer one of a 3:2 image with as many pixels.
FRAME_FILLING, COARSE, FINE = 256, 640, 1128
FRAME_FILLING_FROM = 0.35  # of the side of the image
COARSE_FROM, FINE_TO = 32, 128
# A candidate of the coarse pass that the finest would take is a hint from this raw score
# on. The finest pass sees the parts with hints, each with a margin in its own sizes. Parts
# that overlap are one.
HINT, HINT_MARGIN = 0.1, 1
OVERLAP = 0.4  # of two boxes of the same face
CANDIDATE, TOLD = 0.02, 0.25  # raw scores


def overlaps(box, boxes):
    """IoU of one box with each of several."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - both)


def suppress(faces):
    """The faces that no better one overlaps, the best first."""
    faces = faces[np.argsort(-faces[:, 4], kind="stable")]
    kept = []
    while len(faces):
        kept.append(faces[0])
        faces = faces[1:][overlaps(faces[0, :4], faces[1:, :4]) <= OVERLAP]
    return np.array(kept).reshape(-1, 15)


def decode(outputs, columns):
    """All faces of the outputs by name, for an input of that many columns."""
    found = []
    for stride in 8, 16, 32:
        cls, obj, box, points = (outputs[f"{k}_{stride}"][0].astype(float) for k in ("cls", "obj", "bbox", "kps"))
        cell = np.arange(len(box))
        corner = np.stack([cell % (columns // stride), cell // (columns // stride)], axis=1)
        score = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1)).reshape(-1, 1)
        center, half = (corner + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
        found.append(np.hstack([center - half, center + half, score, (np.tile(corner, 5) + points) * stride]))
    found = np.concatenate(found)
    return found[found[:, 4] >= CANDIDATE]


def bilinear(size, scale, n):
    """A matrix that scales size samples onto n by linear interpolation; beyond the
    first and the last sample these go on."""
    at = np.clip((np.arange(n)[:, None] + 0.5) / scale - 0.5, 0, size - 1)
    return np.maximum(0, 1 - abs(np.arange(size) - at))


def halved(plane):
    """The means of four samples each, in whole gray levels, half of one rounded up."""
    rows, columns = plane.shape[0] // 2, plane.shape[1] // 2
    fours = plane[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.floor((fours.sum(axis=(1, 3)) + 2) / 4)


class Picture:
    """Planes, of which those of Y, Cb and Cr may have unlike sizes."""

    def __init__(self, path, planes):
        self.luma_chroma = planes is not None and os.path.isdir(planes)
        if self.luma_chroma:
            bands = [Image.open(os.path.join(planes, f"{i}.png")) for i in range(3)]
        else:
            image = Image.open(path).convert("RGBA")
            bands = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).split()[:3]
        self.width, self.height = bands[0].size
        self.planes = [np.asarray(b, dtype=float) for b in bands]

    def scaled(self, scale, width, height):
        """Blue, green and red; both axes are scaled alike, whatever the rounding of
        the size. To 0.7 and less in steps of a half, of which interpolation does what
        is left; four pixels share a chroma."""
        planes, ratios = self.planes, [(round(self.height / p.shape[0]), round(self.width / p.shape[1])) for p in self.planes]
        while scale <= 0.7 and all(min(p.shape) >= 2 for p in planes):
            planes, scale = [halved(p) for p in planes], 2 * scale
        out = []
        for i, (plane, (down, across)) in enumerate(zip(planes, ratios)):
            shared = 2 if self.luma_chroma and i > 0 else 1
            down = bilinear(plane.shape[0], scale * down / shared, -(-height // shared))
            across = bilinear(plane.shape[1], scale * across / shared, -(-width // shared))
            plane = down @ plane @ across.T
            out.append(plane.repeat(shared, axis=0).repeat(shared, axis=1)[:height, :width])
        if self.luma_chroma:  # as JFIF says
            y, cb, cr = out[0], out[1] - 128, out[2] - 128
            out = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
        return np.clip(out[::-1], 0, 255)


class Network:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.names = [o.name for o in self.session.get_outputs()]
        rows, columns = self.input.shape[2:]
        self.fixed = (rows, columns) if isinstance(rows, int) else None

    def run(self, pixels):
        outputs = self.session.run(None, {self.input.name: pixels[None].astype(np.float32)})
        return decode(dict(zip(self.names, outputs)), pixels.shape[2])


def passes(network, picture):
    """For each pass its scale, the smallest and the largest face, and the pixels."""
    side = math.sqrt(1.5 * picture.width * picture.height)
    if network.fixed:
        rows, columns = network.fixed
        bands = [(min(rows / picture.height, columns / picture.width), 0, math.inf)]
    else:
        fine = FINE / side
        bands = [
            (FRAME_FILLING / side, FRAME_FILLING_FROM * side, math.inf),
            (COARSE / side, COARSE_FROM / fine, math.inf),
            (fine, 0, FINE_TO / fine),
        ]
    for scale, smallest, largest in bands:
        width, height = (max(1, math.floor(v * scale + 0.5)) for v in (picture.width, picture.height))
        pixels = np.zeros((3, *(network.fixed or (math.ceil(height / 32) * 32, math.ceil(width / 32) * 32))))
        pixels[:, :height, :width] = picture.scaled(scale, width, height)
        yield scale, smallest, largest, pixels


def windows(picture, scale, hints):
    """The parts of a pass over the image in which the hints are, in whole cells of 32
    pixels: left, top, right and bottom."""
    size = [picture.width, picture.height]
    parts = []
    for hint in hints:
        margin = HINT_MARGIN * np.max(hint[2:4] - hint[:2])
        low = np.floor(np.clip(hint[:2] - margin, 0, size) * scale / 32).astype(int) * 32
        high = np.ceil(np.ceil(np.clip(hint[2:4] + margin, 0, size) * scale) / 32).astype(int) * 32
        while True:
            near = [i for i, (a, b) in enumerate(parts) if (a < high).all() and (low < b).all()]
            if not near:
                break
            a, b = parts.pop(near[0])
            low, high = np.minimum(low, a), np.maximum(high, b)
        parts.append((low, high))
    return [(*low, *high) for low, high in parts]


def detect(network, picture):
    found = [np.empty((0, 15))]
    hints = None
    for scale, smallest, largest, pixels in passes(network, picture):
        parts = [(0, 0, pixels.shape[2], pixels.shape[1])]
        if smallest == 0 and not network.fixed:
            parts = windows(picture, scale, hints)
        faces = [np.empty((0, 15))]
        for left, top, right, bottom in parts:
            seen = network.run(pixels[:, top:bottom, left:right])
            seen[:, :4] += [left, top, left, top]
            seen[:, 5:] += [left, top] * 5
            faces.append(seen)
        faces = np.concatenate(faces)
        faces[:, :4] /= scale
        faces[:, 5:] /= scale
        side = np.max(faces[:, 2:4] - faces[:, :2], axis=1, initial=0)
        inside = (faces[:, 2:4] > 0).all(axis=1) & (faces[:, :2] < [picture.width, picture.height]).all(axis=1)
        hint_to = FINE_TO * math.sqrt(1.5 * picture.width * picture.height) / FINE
        hints = faces[inside & (faces[:, 4] >= HINT) & (side <= hint_to)]
        faces = faces[(side >= smallest) & (side <= largest)]
        # Boxes are cut at the frame before they are compared.
        faces[:, 0:4:2] = np.clip(faces[:, 0:4:2], 0, picture.width)
        faces[:, 1:4:2] = np.clip(faces[:, 1:4:2], 0, picture.height)
        found.append(suppress(faces[(faces[:, 2] > faces[:, 0]) & (faces[:, 3] > faces[:, 1])]))
    return suppress(np.concatenate(found))


def opencv(path, network, pictures, least=0.3):
    """Compares pass by pass, in pixels of the network's input: each of OpenCV's faces
    with the candidate that is most like it. OpenCV suppresses boxes of whole pixels,
    so that of two that overlap it keeps another one now and then."""
    import cv2

    detector = cv2.FaceDetectorYN.create(path, "", (32, 32), least, OVERLAP)
    passed = kept = other = 0
    apart = []  # IoU, points, raw score
    for picture in pictures:
        for _, _, _, pixels in passes(network, picture):
            pixels = np.round(pixels)
            ours = network.run(pixels)
            best = suppress(ours)
            detector.setInputSize(pixels.shape[:0:-1])
            theirs = detector.detect(np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.uint8))[1]
            theirs = np.empty((0, 15)) if theirs is None else theirs.astype(float)
            # x, y, width, height, five points, score
            theirs = np.hstack([theirs[:, :2], theirs[:, :2] + theirs[:, 2:4], theirs[:, 14:], theirs[:, 4:14]])
            passed, kept = passed + 1, kept + int((best[:, 4] >= least).sum())
            for face in theirs:
                same = overlaps(face[:4], ours[:, :4])
                match = ours[same.argmax()]
                points = (match[5:] - face[5:]).reshape(5, 2)
                apart.append((same.max(), np.hypot(*points.T).max(), abs(match[4] - face[4])))
                other += not np.isin(match[4], best[:, 4])
    iou, points, score = np.transpose(apart)
    print(
        f"{os.path.basename(path)}, OpenCV {cv2.__version__}: {passed} passes, {len(iou)} faces, {kept} here, "
        f"{other} that are suppressed here; IoU at least {iou.min():.4f}, points at most {points.max():.4f} pixels "
        f"apart, raw scores {score.max():.6f}"
    )


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--opencv", action="store_true")
    arguments.add_argument("--planes")
    arguments.add_argument("network")
    arguments.add_argument("folder")
    arguments.add_argument("image", nargs="+")
    arguments = arguments.parse_args()

    network = Network(arguments.network)
    pictures = (
        Picture(os.path.join(arguments.folder, i), arguments.planes and os.path.join(arguments.planes, i))
        for i in arguments.image
    )
    if arguments.opencv:
        opencv(arguments.network, network, pictures)
        return
    with open(arguments.network, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    libraries = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "pillow": PIL.__version__}
    print(json.dumps({"network": os.path.basename(arguments.network), "sha256": digest, **libraries}))
    for name, picture in zip(arguments.image, pictures):
        faces = detect(network, picture)
        faces = [[round(v, 4 if k == 4 else 3) for k, v in enumerate(f)] for f in faces[faces[:, 4] >= TOLD].tolist()]
        print(json.dumps({"file": name, "faces": faces}))


main()
