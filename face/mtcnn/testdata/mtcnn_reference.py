"""Runs MTCNN independently of Mien, to compare with: reads images, writes JSON.

    python3 mtcnn_reference.py FOLDER_OF_NETWORKS IMAGE...

prints one object a line: file as given, and faces as [x1, y1, x2, y2, probability, five
times x and y]. Needs numpy, OpenCV (cv2) and onnxruntime.

Written from the paper (Zhang et al. 2016) and from what version 0.1.1 of the
Python package mtcnn does: channels last, RGB, the image's axes swapped before
each network, OpenCV's INTER_AREA, boxes 1-based with both ends in them.
"""

import json
import math
import os
import sys

import cv2
import numpy as np
import onnxruntime

SMALLEST, FACTOR, LEAST = 20, 0.709, (0.6, 0.7, 0.7)


def network(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(pixels):
        """pixels: batch, rows, columns, RGB. Answers the outputs by last axis."""
        swapped = np.ascontiguousarray(np.swapaxes(pixels, 1, 2), dtype=np.float32)
        return {o.shape[-1]: o for o in session.run(None, {name: swapped})}

    return run


def normal(pixels):
    return (np.asarray(pixels, dtype=np.float64) - 127.5) * 0.0078125


def suppress(boxes, scores, limit, smaller=False):
    """Indices of the boxes that stay, the best first; of equals the last."""
    sizes = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    left = list(np.argsort(scores, kind="stable"))
    stay = []
    while left:
        best = left.pop()
        stay.append(best)
        rest = np.array(left, dtype=int)
        if not len(rest):
            break
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        both = np.prod(np.maximum(high - low + 1, 0), axis=1)
        whole = np.minimum(sizes[best], sizes[rest]) if smaller else sizes[best] + sizes[rest] - both
        left = list(rest[both / whole <= limit])
    return np.array(stay, dtype=int)


def moved(boxes, offsets, plus):
    size = boxes[:, 2:] - boxes[:, :2] + plus
    return boxes + np.hstack([offsets[:, :2] * size, offsets[:, 2:] * size])


def squared(boxes):
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size * 0.5 - side * 0.5
    return np.hstack([corner, corner + side])


def crops(image, boxes, side):
    height, width = image.shape[:2]
    out = np.zeros((len(boxes), side, side, 3))
    for k, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        part = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3))
        top, left = max(y1 - 1, 0), max(x1 - 1, 0)
        bottom, right = min(y2, height), min(x2, width)
        if top < bottom and left < right:
            part[top - y1 + 1 : bottom - y1 + 1, left - x1 + 1 : right - x1 + 1] = image[top:bottom, left:right]
        out[k] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return normal(out)


def proposals(image, scale, pnet):
    height, width = image.shape[:2]
    size = (math.ceil(width * scale), math.ceil(height * scale))
    out = pnet(normal(cv2.resize(image, size, interpolation=cv2.INTER_AREA))[None])
    scores, offsets = out[2][0, :, :, 1], out[4][0]  # by column, row
    cells = np.argwhere(scores >= LEAST[0])
    if len(cells) == 1:
        offsets = offsets[::-1]  # sic
    cols, rows = cells[:, 0], cells[:, 1]
    boxes = np.hstack([np.fix((2 * cells + 1) / scale), np.fix((2 * cells + 12) / scale)])
    stay = suppress(boxes, scores[cols, rows], 0.5)
    return boxes[stay], scores[cols, rows][stay], offsets[cols, rows][stay]


def detect(image, pnet, rnet, onet):
    first = 12 / SMALLEST
    scales, side = [], min(image.shape[:2]) * first
    while side >= 12:
        scales.append(first * FACTOR ** len(scales))
        side *= FACTOR
    found = [proposals(image, s, pnet) for s in scales]
    if not sum(len(f[0]) for f in found):
        return []
    boxes, scores, offsets = (np.concatenate(a) for a in zip(*found))
    stay = suppress(boxes, scores, 0.7)
    boxes = np.fix(squared(moved(boxes[stay], offsets[stay].astype(float), 0)))

    out = rnet(crops(image, boxes, 24))
    scores = out[2][:, 1]
    good = scores > LEAST[1]
    boxes, scores, offsets = boxes[good], scores[good], out[4][good].astype(float)
    stay = suppress(boxes, scores, 0.7)
    if not len(stay):
        return []
    boxes = np.fix(squared(moved(boxes[stay], offsets[stay], 1)))

    out = onet(crops(image, boxes, 48))
    scores = out[2][:, 1]
    good = scores > LEAST[2]
    boxes, scores, offsets, points = boxes[good], scores[good], out[4][good].astype(float), out[10][good]
    size = boxes[:, 2:] - boxes[:, :2] + 1
    x = points[:, :5] * size[:, :1] + boxes[:, :1] - 1
    y = points[:, 5:] * size[:, 1:] + boxes[:, 1:2] - 1
    boxes = moved(boxes, offsets, 1)
    faces = np.hstack([boxes, scores[:, None], np.stack([x, y], axis=2).reshape(-1, 10)])
    return faces[suppress(boxes, scores, 0.7, smaller=True)].tolist()


def main():
    networks = [network(os.path.join(sys.argv[1], n + ".onnx")) for n in ("pnet", "rnet", "onet")]
    for path in sys.argv[2:]:
        image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        faces = [[round(v, 5) for v in f] for f in detect(image, *networks)]
        print(json.dumps({"file": path, "faces": faces}))


main()
