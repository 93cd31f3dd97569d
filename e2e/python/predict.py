"""Calls Predict with the stub that protoc and its gRPC plugin make.

Prints one JSON object a line, in the order of the arguments: {"answer": ...} for
an image, or {"error": ...} when the call failed. With --stream or --batch, all
images go into one call, and the answers come as it gives them.
"""

import argparse
import json
import pathlib

import grpc
from google.protobuf import json_format

import errors_pb2
from inference.v1 import inference_pb2, inference_pb2_grpc


def predict(stub, image, timeout):
    try:
        answer = stub.Predict(image, timeout=timeout)
        return {"answer": json_format.MessageToDict(answer)}
    except grpc.RpcError as error:
        return {
            "error": {
                "code": error.code().name,
                "message": error.details(),
                "reasons": list(reasons(error)),
            }
        }


def reasons(error):
    """The reasons, as domain/reason, in an error's details."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = errors_pb2.Status.FromString(value)
        assert status.code == error.code().value[0], status
        assert status.message == error.details(), status
        for detail in status.details:
            info = errors_pb2.ErrorInfo()
            if detail.Unpack(info):
                yield f"{info.domain}/{info.reason}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("--timeout", type=float, default=60, help="seconds")
    parser.add_argument("--min-face-size", type=int, default=0)
    parser.add_argument("--compression", choices=["deflate", "gzip"])
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("image", nargs="+", type=pathlib.Path)
    args = parser.parse_args()

    compression = {
        None: grpc.Compression.NoCompression,
        "deflate": grpc.Compression.Deflate,
        "gzip": grpc.Compression.Gzip,
    }[args.compression]
    with grpc.insecure_channel(args.address, compression=compression) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        stub = inference_pb2_grpc.InferenceStub(channel)
        images = []
        for path in args.image:
            image = inference_pb2.Image(raw_data=path.read_bytes(), image_id=path.name)
            image.options.min_face_size = args.min_face_size
            images.append(image)
        answers = ()
        if args.stream:
            answers = stub.PredictStream(iter(images), timeout=args.timeout)
        elif args.batch:
            answers = stub.PredictBatch(
                inference_pb2.PredictBatchRequest(images=images), timeout=args.timeout
            )
        for answer in answers:
            print(json.dumps({"answer": json_format.MessageToDict(answer)}), flush=True)
        if args.stream or args.batch:
            return
        for image in images:
            print(json.dumps(predict(stub, image, args.timeout)), flush=True)


if __name__ == "__main__":
    main()
