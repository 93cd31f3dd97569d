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
import threading
from contextlib import asynccontextmanager

import anyio.to_thread
import cv2
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0.9"))

cv2.setNumThreads(1)
local = threading.local()


def detector():
    """A detector for each thread, because a detector keeps the size of its image."""
    if not hasattr(local, "detector"):
        local.detector = cv2.FaceDetectorYN.create(os.environ["YUNET"], "", (320, 320), MIN_SCORE, 0.3, 5000)
    return local.detector


@asynccontextmanager
async def lifespan(_):
    # Connections stay with the worker that accepted them, and may all be of the same one, so that each can use all
    # cores, but no more threads than that (https://www.starlette.io/threadpool).
    anyio.to_thread.current_default_thread_limiter().total_tokens = int(os.environ["CORES"])
    yield


app = FastAPI(lifespan=lifespan)


async def read(request: Request):
    return await request.body()


@app.post("/predict")
def predict(body: bytes = Depends(read)):
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if body else None
    if image is None:
        raise HTTPException(400, "the body is no image")
    height, width = image.shape[:2]
    yunet = detector()
    yunet.setInputSize((width, height))
    _, found = yunet.detect(image)
    faces = []
    for x, y, w, h, *points, score in [] if found is None else found.tolist():
        landmarks = [points[i : i + 2] for i in range(0, 10, 2)]
        faces.append({"box": [x, y, x + w, y + h], "score": score, "landmarks": landmarks})
    return {"faces": faces}
