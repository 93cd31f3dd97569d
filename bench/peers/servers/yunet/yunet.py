"""YuNet in ONNX Runtime, for the servers of BentoML and LitServe.

It decodes as OpenCV's FaceDetectorYN does, and has the same defaults: score .9, overlap .3, 5000 boxes
(https://docs.opencv.org/4.10.0/df/d20/classcv_1_1FaceDetectorYN.html).
"""

import os

import cv2
import numpy as np
import onnxruntime

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0.9"))
MAX_OVERLAP = 0.3
MAX_BOXES = 5000
STRIDES = (8, 16, 32)
OUTPUTS = [f"{name}_{stride}" for stride in STRIDES for name in ("cls", "obj", "bbox", "kps")]

cv2.setNumThreads(1)


class YuNet:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["YUNET"], options, providers=["CPUExecutionProvider"])

    def detect(self, body):
        """Finds the faces in the bytes of an image. Returns None if they are not an image."""
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if body else None
        if image is None:
            return None
        height, width = image.shape[:2]
        image = cv2.copyMakeBorder(image, 0, -height % 32, 0, -width % 32, cv2.BORDER_CONSTANT, value=0)
        outputs = self.session.run(OUTPUTS, {"input": cv2.dnn.blobFromImage(image)})

        scores, boxes, points = [], [], []
        for i, stride in enumerate(STRIDES):
            classes, objects, offsets, keypoints = (output[0] for output in outputs[4 * i : 4 * i + 4])
            score = np.sqrt(classes[:, 0].clip(0, 1) * objects[:, 0].clip(0, 1))
            found = np.flatnonzero(score >= MIN_SCORE)
            row, column = np.divmod(found, image.shape[1] // stride)
            cell = np.stack([column, row], axis=1)
            center = (cell + offsets[found, :2]) * stride
            size = np.exp(offsets[found, 2:]) * stride
            scores.append(score[found])
            boxes.append(np.hstack([center - size / 2, size]))
            points.append((keypoints[found].reshape(-1, 5, 2) + cell[:, None]) * stride)
        scores, boxes, points = np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)

        # OpenCV suppresses boxes of integers.
        kept = cv2.dnn.NMSBoxes(boxes.astype(int).tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP, top_k=MAX_BOXES)
        kept = np.asarray(kept, int)
        boxes[:, 2:] += boxes[:, :2]
        found = zip(boxes[kept].tolist(), scores[kept].tolist(), points[kept].tolist())
        return [{"box": box, "score": score, "landmarks": landmarks} for box, score, landmarks in found]
