"""Runs the Python package that the old system was built on, to compare with.

    python3 mtcnn_package.py IMAGE...

prints one object a line: file as given, and faces as the package answers them, in its
whole numbers: [x, y, width, height, confidence, five times x and y]. Needs mtcnn 0.1.1
with tensorflow-cpu 2.15.1 and setuptools before 80.
"""

import json
import sys

import cv2
from mtcnn import MTCNN

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def main():
    detector = MTCNN()
    answers = sys.stdout
    sys.stdout = sys.stderr  # TensorFlow prints its progress
    for path in sys.argv[1:]:
        image = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        faces = [
            [*f["box"], round(float(f["confidence"]), 5), *(v for p in POINTS for v in f["keypoints"][p])]
            for f in detector.detect_faces(image)
        ]
        print(json.dumps({"file": path, "faces": faces}), file=answers)


main()
