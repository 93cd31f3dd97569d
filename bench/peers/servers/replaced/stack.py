"""Starts the whole system that Mien replaces: server.py in three processes, and front.py behind gunicorn.

PORT          gunicorn listens on 127.0.0.1:PORT
BACKEND_PORT  the gRPC server listens on 127.0.0.1:BACKEND_PORT
CORES         number of cores, for the number of gunicorn's processes
PROCESSES     number of processes of the gRPC server; 3 by default

SIGTERM ends all of them, and so does the end of one of the two programs.
"""

import os
import pathlib
import signal
import subprocess
import sys

import grpc

HERE = pathlib.Path(__file__).resolve().parent
BACKEND = "127.0.0.1:" + os.environ["BACKEND_PORT"]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    programs = []
    try:
        environment = {"PROCESSES": "3"} | os.environ | {"PORT": os.environ["BACKEND_PORT"], "BACKEND": BACKEND}
        programs.append(subprocess.Popen([sys.executable, "server.py"], cwd=HERE, env=environment))
        with grpc.insecure_channel(BACKEND) as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
        programs.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:" + os.environ["PORT"]),
                    *("--worker-class", "gthread", "--threads", "10", "--no-control-socket"),
                    *("--workers", str(2 * int(os.environ["CORES"]) + 1), "front:app"),
                ],
                cwd=HERE,
                env=environment,
            )
        )
        os.wait()
        sys.exit("one of the programs ended")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for program in programs:
            program.terminate()
        for program in programs:
            program.wait()


if __name__ == "__main__":
    main()
