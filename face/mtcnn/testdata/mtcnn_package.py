"""Runs the Python package that the old system was built on, to compare with.

    python3 mtcnn_package.py IMAGE...

prints one object a line: file as given, and faces as [x1, y1, x2, y2, confidence, five
times x and y], before the package cuts off decimals. It checks that the package's answers
are these with their decimals cut off. Needs mtcnn 0.1.0 with tensorflow-cpu 2.15.1, opencv-python 4.11 and
setuptools before 80.
"""

import json
import sys

import cv2
from mtcnn import MTCNN

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class Detector(MTCNN):
    """The package's detector, which keeps what its last stage answers."""

    def _MTCNN__stage3(self, *args):
        self.answer = super()._MTCNN__stage3(*args)
        return self.answer


def answer(detector, image):
    """The faces in an image, sorted as the package sorts them."""
    given = detector.detect_faces(image)
    boxes, points = detector.answer
    faces = []
    for face, box, xy in zip(given, boxes, points.T):
        x1, y1, x2, y2, score = (float(v) for v in box)
        pairs = [(float(xy[k]), float(xy[k + 5])) for k in range(5)]
        assert face["box"] == [int(x1), int(y1), int(x2 - x1), int(y2 - y1)], face
        assert [face["keypoints"][p] for p in POINTS] == [(int(x), int(y)) for x, y in pairs], face
        numbers = [x1, y1, x2, y2, score, *(v for p in pairs for v in p)]
        faces.append([round(v, 5) for v in numbers])
    assert len(faces) == len(given)
    return faces


def main():
    detector = Detector()
    answers = sys.stdout
    sys.stdout = sys.stderr  # TensorFlow prints its progress
    for path in sys.argv[1:]:
        image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        print(json.dumps({"file": path, "faces": answer(detector, image)}), file=answers, flush=True)


main()
