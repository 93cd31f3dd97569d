"""What the servers behind FastAPI and uvicorn have in common: POST /predict, the body is an image."""

import os
import threading
from contextlib import asynccontextmanager

import anyio.to_thread
import cv2
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request

cv2.setNumThreads(1)


@asynccontextmanager
async def lifespan(_):
    # Connections stay with the worker that accepted them, and may all be of the same one, so that each can use all
    # cores, but no more threads than that (https://www.starlette.io/threadpool).
    anyio.to_thread.current_default_thread_limiter().total_tokens = int(os.environ["CORES"])
    yield


async def read(request: Request):
    return await request.body()


def new_app(new_detect, color=cv2.IMREAD_COLOR):
    """Returns the application. new_detect is called once in each thread, because a detector is for one thread at a
    time, and returns a function that finds the faces in an image."""
    app = FastAPI(lifespan=lifespan)
    local = threading.local()

    @app.post("/predict")
    def predict(body: bytes = Depends(read)):
        image = cv2.imdecode(np.frombuffer(body, np.uint8), color) if body else None
        if image is None:
            raise HTTPException(400, "the body is not an image")
        if not hasattr(local, "detect"):
            local.detect = new_detect()
        return {"faces": local.detect(image)}

    return app
