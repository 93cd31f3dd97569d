"""OpenCV's FaceDetectorYN behind FastAPI and uvicorn.

One worker process for each core, as https://fastapi.tiangolo.com/deployment/server-workers/ recommends,
and one thread for an image, as there are as many images at once as cores: 6.5 images a second with 2 callers and 2
cores, and 4.5 with two threads for an image, in one run each on a busy machine.

The network gets the image at its own size; OpenCV pads it to multiples of 32. OpenCV's new engine is the only one
that runs a YuNet with inputs of any size. The score, the overlap and the number of boxes before suppression are the
defaults of the class, and of OpenCV's example: .9, .3, 5000
(https://docs.opencv.org/4.10.0/df/d20/classcv_1_1FaceDetectorYN.html).
"""

import os

import cv2
from web import new_app

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0.9"))


def new_detect():
    yunet = cv2.FaceDetectorYN.create(os.environ["YUNET"], "", (320, 320), MIN_SCORE, 0.3, 5000)

    def detect(image):
        height, width = image.shape[:2]
        yunet.setInputSize((width, height))
        _, found = yunet.detect(image)
        faces = []
        for x, y, w, h, *points, score in [] if found is None else found.tolist():
            landmarks = [points[i : i + 2] for i in range(0, 10, 2)]
            faces.append({"box": [x, y, x + w, y + h], "score": score, "landmarks": landmarks})
        return faces

    return detect


app = new_app(new_detect)
