"""MediaPipe's FaceDetection behind FastAPI and uvicorn.

model_selection=1 is the full range model, for faces up to 5 meters away; min_detection_confidence is its default, .5
(https://github.com/google-ai-edge/mediapipe/blob/master/docs/solutions/face_detection.md). It has six points: the
eyes, the nose, the center of the mouth and the ears. These are not the five that Mien has, so landmarks are null.
One worker process for each core, as https://fastapi.tiangolo.com/deployment/server-workers/ recommends.
"""

import os
import threading
from contextlib import asynccontextmanager

import anyio.to_thread
import cv2
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request
from mediapipe.python.solutions.face_detection import FaceDetection

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0.5"))

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
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if body else None
    if image is None:
        raise HTTPException(400, "the body is no image")
    if not hasattr(local, "detector"):
        # A detector is for one thread at a time.
        local.detector = FaceDetection(model_selection=1, min_detection_confidence=MIN_SCORE)
    found = local.detector.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).detections or []
    height, width = image.shape[:2]
    faces = []
    for face in found:
        box = face.location_data.relative_bounding_box
        edges = [
            box.xmin * width,
            box.ymin * height,
            (box.xmin + box.width) * width,
            (box.ymin + box.height) * height,
        ]
        faces.append({"box": edges, "score": face.score[0], "landmarks": None})
    return {"faces": faces}
