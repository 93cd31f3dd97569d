"""Calls the way that clients of the system which Mien replaces do.

Prints a JSON object a line: the gRPC answer, then the HTTP answer.
"""

import argparse
import base64
import json
import pathlib
import time
import urllib.request
import uuid

import grpc
from google.protobuf import json_format

import old_inference_pb2
import old_inference_pb2_grpc


class Client:
    """Waits for the server for up to ten seconds, and gives every call five."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=10)
        self.stub = old_inference_pb2_grpc.InferenceStub(self.channel)

    def predict(self, path, image_id):
        image = old_inference_pb2.Image(raw_data=path.read_bytes(), image_id=image_id)
        meta_data = getattr(image, "_meta_data")
        meta_data.timestamp = time.time()
        meta_data.environment = old_inference_pb2.PRODUCTION
        meta_data.uuid = str(uuid.uuid4())
        return self.stub.Predict(image, timeout=5)


def post(url, path, image_id, prefix):
    body = {
        "img_id": image_id,
        "img_b64": prefix + base64.b64encode(path.read_bytes()).decode(),
    }
    request = urllib.request.Request(
        url + "/predict",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200, answer.status
        return json.load(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grpc", help="host:port")
    parser.add_argument("http", help="http://host:port")
    parser.add_argument("image", type=pathlib.Path)
    args = parser.parse_args()

    answer = Client(args.grpc).predict(args.image, "old-grpc")
    print(json.dumps(json_format.MessageToDict(answer, preserving_proto_field_name=True)))
    for prefix in "", "data:image/jpeg;base64,":
        print(json.dumps(post(args.http, args.image, "old-http", prefix)))


if __name__ == "__main__":
    main()
