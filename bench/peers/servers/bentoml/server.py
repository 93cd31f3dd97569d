"""YuNet in ONNX Runtime behind BentoML.

workers is one process for each core (https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html).
The image is the body itself: "root input" of
https://docs.bentoml.com/en/latest/build-with-bentoml/iotypes.html. BentoML writes it into a file.
threads lets a worker that has several connections use more than one core. On a busy machine it made no clear
difference: 12.1, 11.5 and 8.7 images a second with 2 callers and 2 cores, and 11.4 and 9.4 with one thread.
`bentoml serve` is for production unless it is told --development.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.exceptions import InvalidArgument
from bentoml.validators import ContentType
from yunet import YuNet

CORES = int(os.environ["CORES"])


@bentoml.service(workers=CORES, threads=CORES)
class Faces:
    def __init__(self):
        self.yunet = YuNet()

    @bentoml.api
    def predict(self, image: Annotated[Path, ContentType("image/*")], /) -> dict:
        faces = self.yunet.detect(image.read_bytes())
        if faces is None:
            raise InvalidArgument("the body is not an image")
        return {"faces": faces}
