"""Says what the Python package onnx reads in ONNX files, to compare with.

    python3 golden.py FILE...           prints testdata/golden.jsonl
    python3 golden.py --text FILE...    prints what the hashes in it are of

Needs onnx (1.23.2 made what is committed) and numpy. TestGolden names the files and
makes the same text of what package onnxfile reads.
"""

import collections
import hashlib
import json
import os
import struct
import sys

import onnx
from onnx import AttributeProto, numpy_helper


def shape(value):
    return [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]


def numbers(array):
    """The hash of a tensor's values, as float32 or int64, and its shape."""
    kind = "<f4" if array.dtype.kind == "f" else "<i8"
    digest = hashlib.sha256(array.astype(kind).tobytes()).hexdigest()
    return f"{list(array.shape)} {kind} {digest}".replace(",", "")


def bits(value):
    return "%08x" % struct.unpack("<I", struct.pack("<f", value))[0]


def attribute(a):
    text = {
        AttributeProto.INT: lambda: str(a.i),
        AttributeProto.INTS: lambda: str(list(a.ints)).replace(",", ""),
        AttributeProto.FLOAT: lambda: bits(a.f),
        AttributeProto.FLOATS: lambda: str([bits(f) for f in a.floats]).replace(",", ""),
        AttributeProto.STRING: lambda: a.s.decode(),
        AttributeProto.TENSOR: lambda: numbers(numpy_helper.to_array(a.t)),
    }[a.type]()
    return f"{a.name}={text}"


def read(path):
    model = onnx.load(path)
    graph = model.graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes = []
    for n in graph.node:
        if n.op_type == "Constant":
            (a,) = n.attribute
            weights[n.output[0]] = numpy_helper.to_array(a.t)
        else:
            nodes.append(n)
    inputs = [(i.name, shape(i)) for i in graph.input if i.name not in weights]
    outputs = [(o.name, shape(o)) for o in graph.output]
    lines = [
        f"{n.op_type} {n.name} ({' '.join(n.input)}) ({' '.join(n.output)})"
        + "".join(" " + a for a in sorted(map(attribute, n.attribute)))
        for n in nodes
    ]
    lines += sorted(f"{name} {numbers(array)}" for name, array in weights.items())
    return lines, {
        "file": os.path.basename(path),
        "opset": next(o.version for o in model.opset_import if o.domain == ""),
        "inputs": inputs,
        "outputs": outputs,
        "ops": collections.Counter(n.op_type for n in nodes),
        "weights": len(weights),
        "parameters": sum(a.size for a in weights.values() if a.dtype.kind == "f"),
        "sha256": hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest(),
    }


def main():
    text = sys.argv[1] == "--text"
    for path in sys.argv[2 if text else 1 :]:
        lines, summary = read(path)
        print("\n".join(lines) if text else json.dumps(summary, sort_keys=True))


main()
