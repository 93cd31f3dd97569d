"""dlib's frontal face detector (HOG) behind FastAPI and uvicorn.

The image is scaled up once, and the lowest score is dlib's 0, as in dlib's own example
(http://dlib.net/face_detector.py.html). One worker process for each core, as
https://fastapi.tiangolo.com/deployment/server-workers/ recommends.
"""

import os
import threading
from contextlib import asynccontextmanager

import anyio.to_thread
import cv2
import dlib
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0"))
UPSAMPLINGS = 1

cv2.setNumThreads(1)
local = threading.local()


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
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB) if body else None
    if image is None:
        raise HTTPException(400, "the body is no image")
    if not hasattr(local, "detector"):
        local.detector = dlib.get_frontal_face_detector()
    boxes, scores, _ = local.detector.run(image, UPSAMPLINGS, MIN_SCORE)
    faces = []
    for box, score in zip(boxes, scores):
        # The right and bottom of dlib's rectangles are the last pixels in them.
        edges = [box.left(), box.top(), box.right() + 1, box.bottom() + 1]
        faces.append({"box": edges, "score": score, "landmarks": None})
    return {"faces": faces}
