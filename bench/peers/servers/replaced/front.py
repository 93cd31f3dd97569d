"""The Flask application that Mien replaces: JSON in, a gRPC call to server.py, JSON out.

BACKEND  host:port of server.py
TIMEOUT  seconds for one call to it; none by default. Old clients gave a call 5 seconds

gunicorn runs it with threads, because a request mostly waits for another server, and with the number of
processes that its documentation recommends, two per core and one more:
https://docs.gunicorn.org/en/stable/design.html#choosing-a-worker-type
https://docs.gunicorn.org/en/stable/design.html#how-many-workers

    gunicorn --bind 127.0.0.1:$PORT --worker-class gthread --workers $((2 * CORES + 1)) --threads 10 front:app
"""

import base64
import binascii
import os
import pathlib
import sys

import grpc
from flask import Flask, request
from google.protobuf.json_format import MessageToDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[4] / "e2e" / "proto"))
pb2, pb2_grpc = grpc.protos_and_services("old_inference.proto")

TIMEOUT = float(os.environ["TIMEOUT"]) if "TIMEOUT" in os.environ else None
MAX_MESSAGE = 64 << 20

app = Flask(__name__)
# gunicorn imports this module after the fork, so every process has a channel of its own.
channel = grpc.insecure_channel(os.environ["BACKEND"], options=[("grpc.max_receive_message_length", MAX_MESSAGE)])
stub = pb2_grpc.InferenceStub(channel)


def answer(message, results=()):
    return {"message": message, "results": list(results)}


@app.post("/predict")
def predict():
    body = request.get_json()
    if not isinstance(body, dict):
        return answer("please post JSON format data")
    if not body.get("img_id"):
        return answer("'image id not exists.'")
    try:
        raw = base64.b64decode(body["img_b64"].rpartition(",")[2])
        found = stub.Predict(pb2.Image(image_id=body["img_id"], raw_data=raw), timeout=TIMEOUT)
    except (KeyError, AttributeError, binascii.Error) as e:
        return answer(f"inference failed: {e!r}")
    except grpc.RpcError as e:
        return answer(f"inference failed: {e.details()}")
    return answer("", MessageToDict(found).get("results", []))
