"""The gRPC server that Mien replaces: MTCNN on TensorFlow, behind Inference/Predict.

It has the defaults of the package `mtcnn` 0.1.1 (faces of at least 20 pixels, thresholds .6, .7 and .7), and
TensorFlow's own number of threads, in several processes too: on two cores, three processes answered .84 and .77 images a
second to 4 and 8 callers, and .82 and .82 with one thread each.

PORT       it listens on 127.0.0.1:PORT
PROCESSES  1 (the default), or more: forked processes that share the port, as in
           https://github.com/grpc/grpc/tree/master/examples/python/multiprocessing
"""

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import sys
import uuid
from concurrent import futures
from datetime import datetime, timezone

import grpc

# The stubs are generated when the program starts.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[4] / "e2e" / "proto"))
pb2, pb2_grpc = grpc.protos_and_services("old_inference.proto")

PORT = int(os.environ["PORT"])
PROCESSES = int(os.environ.get("PROCESSES", "1"))
# The number of gRPC's own Python examples.
THREADS = 10
# The default limit of gRPC, 4 MiB, is too low for photographs.
MAX_MESSAGE = 64 << 20


def new_servicer():
    # TensorFlow does not work after a fork, so each process imports it on its own.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import cv2
    import numpy as np
    from mtcnn import MTCNN

    quiet()
    detector = MTCNN()

    class Inference(pb2_grpc.InferenceServicer):
        def Predict(self, request, context):
            raw = np.frombuffer(request.raw_data, np.uint8)
            image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
            if image is None:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "raw_data is not an image")
            faces = detector.detect_faces(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            now = datetime.now(timezone.utc)
            return pb2.InferResults(
                image_id=request.image_id,
                results=[result(face) for face in faces],
                _meta_data=pb2.MetaData(
                    timestamp=now.timestamp(),
                    environment=pb2.PRODUCTION,
                    uuid=str(uuid.uuid4()),
                    iso_date=now.isoformat(),
                ),
            )

    # The first image of a process takes seconds, because Keras traces the networks.
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    detector.detect_faces(noise)
    return Inference()


def quiet():
    """Stops Keras from drawing a progress bar on stdout for each network. The setting is that of a thread."""
    import tensorflow as tf

    tf.keras.utils.disable_interactive_logging()


def result(face):
    x, y, width, height = face["box"]
    return pb2.Result(
        box=pb2.Box(up_left=pb2.Point(x=x, y=y), lower_right=pb2.Point(x=x + width, y=y + height)),
        landmarks=pb2.Landmarks(**{name: pb2.Point(x=x, y=y) for name, (x, y) in face["keypoints"].items()}),
        confidence=face["confidence"],
    )


def serve(ready=None):
    """Serves until SIGTERM. The processes that share a port wait for each other: callers connect to all of them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    servicer = new_servicer()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=THREADS, initializer=quiet),
        options=[
            ("grpc.so_reuseport", int(PROCESSES > 1)),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
        ],
    )
    pb2_grpc.add_InferenceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    if ready:
        ready.wait()
    server.start()
    print(f"process {os.getpid()} listens on 127.0.0.1:{PORT}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=5))
    server.wait_for_termination()
    os._exit(0)  # calls that are still in the queue have no caller


def main():
    if PROCESSES == 1:
        serve()
    # When this process exits, multiprocessing sends SIGTERM to its daemons.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ready = multiprocessing.Barrier(PROCESSES)
    processes = [multiprocessing.Process(target=serve, args=(ready,), daemon=True) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    multiprocessing.connection.wait([process.sentinel for process in processes])
    sys.exit("one of the processes ended")


if __name__ == "__main__":
    main()
