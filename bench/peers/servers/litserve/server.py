"""YuNet in ONNX Runtime behind LitServe.

workers_per_device is the number of cores: "For CPU, set to the number of cores available on the machine"
(https://lightning.ai/docs/litserve/api-reference/litserver). The number of processes that speak HTTP is the default,
which is the same. The image is a file in a form: https://lightning.ai/docs/litserve/features/request-response-format.
"""

import os
import signal

import litserve
from fastapi import HTTPException
from yunet import YuNet


class Faces(litserve.LitAPI):
    def setup(self, device):
        self.yunet = YuNet()

    def decode_request(self, request):
        if "image" not in request or isinstance(request["image"], str):
            raise HTTPException(400, "the form has no file named image")
        return request["image"].file.read()

    def predict(self, body):
        faces = self.yunet.detect(body)
        if faces is None:
            raise HTTPException(400, "the file is not an image")
        return faces

    def encode_response(self, faces):
        return {"faces": faces}


if __name__ == "__main__":
    # LitServe stops its processes when it is interrupted, but not at SIGTERM, though its docs say so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = litserve.LitServer(
        Faces(api_path="/predict"), accelerator="cpu", workers_per_device=int(os.environ["CORES"])
    )
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", generate_client_file=False)
