"""dlib's frontal face detector (HOG) behind FastAPI and uvicorn.

The image is scaled up once, and the lowest score is dlib's 0, as in dlib's own example
(http://dlib.net/face_detector.py.html). One worker process for each core, as
https://fastapi.tiangolo.com/deployment/server-workers/ recommends.
"""

import os

import cv2
import dlib
from web import new_app

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0"))
UPSAMPLINGS = 1


def new_detect():
    detector = dlib.get_frontal_face_detector()

    def detect(image):
        boxes, scores, _ = detector.run(image, UPSAMPLINGS, MIN_SCORE)
        faces = []
        for box, score in zip(boxes, scores):
            # The right and bottom of dlib's rectangles are the last pixels in them.
            edges = [box.left(), box.top(), box.right() + 1, box.bottom() + 1]
            faces.append({"box": edges, "score": score, "landmarks": None})
        return faces

    return detect


app = new_app(new_detect, cv2.IMREAD_COLOR_RGB)
