"""MediaPipe's FaceDetection behind FastAPI and uvicorn.

model_selection=1 is the full range model, for faces up to 5 meters away; min_detection_confidence is its default, .5
(https://github.com/google-ai-edge/mediapipe/blob/master/docs/solutions/face_detection.md). It has six points: the
eyes, the nose, the center of the mouth and the ears. These are not the five that Mien has, so landmarks are null.
One worker process for each core, as https://fastapi.tiangolo.com/deployment/server-workers/ recommends.
"""

import os

import cv2
from mediapipe.python.solutions.face_detection import FaceDetection
from web import new_app

MIN_SCORE = float(os.environ.get("MIN_SCORE", "0.5"))


def new_detect():
    detector = FaceDetection(model_selection=1, min_detection_confidence=MIN_SCORE)

    def detect(image):
        found = detector.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).detections or []
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
        return faces

    return detect


app = new_app(new_detect)
