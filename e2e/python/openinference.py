"""Calls the Open Inference Protocol with tritonclient, by gRPC and by HTTP.

Checks every tensor against the JSON that Predict answers for the same images, and the
contract against tritonclient's own. Prints one line for each check that passed.
"""

import base64
import json
import struct
import sys
import urllib.request

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf import descriptor_pb2, descriptor_pool
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

LANDMARKS = ("leftEye", "rightEye", "nose", "mouthLeft", "mouthRight")
MODULES = {"grpc": tritonclient.grpc, "http": tritonclient.http}


def predict(address, image, options):
    """The faces in one image, as Predict answers in JSON."""
    body = json.dumps({"rawData": base64.b64encode(image).decode(), "options": options})
    request = urllib.request.Request(
        f"http://{address}/inference.v1.Inference/Predict", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["results"]


def tensors(answers):
    """The tensors that the protocol has for those answers."""
    faces = [face for answer in answers for face in answer]

    def point(p):
        return [p["x"], p["y"]]

    boxes = [point(f["box"]["upLeft"]) + point(f["box"]["lowerRight"]) for f in faces]
    landmarks = [[point(f["landmarks"][name]) for name in LANDMARKS] for f in faces if "landmarks" in f]
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "landmarks": np.array(landmarks, np.float32).reshape(-1, 5, 2),
        "scores": np.array([f["confidence"] for f in faces], np.float64).astype(np.float32),
        "counts": np.array([len(answer) for answer in answers], np.int32),
    }


def same(got, want, what):
    assert got is not None, what
    assert got.dtype == want.dtype and got.shape == want.shape, (what, got.dtype, got.shape, want.shape)
    assert got.tobytes() == want.tobytes(), (what, got, want)


def image_input(module, images, column):
    shape = [len(images), 1] if column else [len(images)]
    tensor = module.InferInput("image", shape, "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=np.object_).reshape(shape))
    return tensor


def check_inference(protocol, client, address, model, images):
    module = MODULES[protocol]
    cases = [
        ("one image", images[:1], {}, None, False),
        ("a column", images, {}, None, True),
        ("a batch", images * 3, {}, None, False),
        ("some outputs", images, {}, ["counts", "scores"], False),
        ("options", images, {"min_confidence": "0.9", "max_results": 2, "min_face_size": 60}, None, False),
        ("no landmarks", images, {"skip_landmarks": True}, None, True),
        ("any orientation", images[:1], {"any_orientation": True}, None, False),
    ]
    names = {"min_confidence": "minConfidence", "max_results": "maxResults", "min_face_size": "minFaceSize"}
    names |= {"skip_landmarks": "skipLandmarks", "any_orientation": "anyOrientation"}
    for name, batch, parameters, outputs, column in cases:
        options = {names[key]: float(value) if key == "min_confidence" else value for key, value in parameters.items()}
        want = tensors([predict(address, image, options | {"model": model}) for image in batch])
        assert name != "one image" or len(want["scores"]) > 0, "no face to compare"
        asked = [module.InferRequestedOutput(output) for output in outputs] if outputs else None
        result = client.infer(
            model, [image_input(module, batch, column)], outputs=asked, request_id=name, parameters=parameters, model_version="1"
        )
        for output, tensor in want.items():
            if outputs is None or output in outputs:
                same(result.as_numpy(output), tensor, (protocol, name, output))
            else:
                assert result.as_numpy(output) is None, (protocol, name, output)
        answer = result.get_response()
        assert (answer["id"] if protocol == "http" else answer.id) == name, answer
        print(protocol, model, name, len(want["scores"]), "faces")


def check_json(client, address, model, images):
    """Images and outputs as JSON, which only HTTP has."""
    module = tritonclient.http
    tensor = module.InferInput("image", [len(images)], "BYTES")
    encoded = [base64.b64encode(image) for image in images]
    tensor.set_data_from_numpy(np.array(encoded, dtype=np.object_), binary_data=False)
    want = tensors([predict(address, image, {"model": model}) for image in images])
    asked = [module.InferRequestedOutput(name, binary_data=name == "boxes") for name in want]
    result = client.infer(model, [tensor], outputs=asked)
    for name, value in want.items():
        same(result.as_numpy(name), value, ("JSON", name))
    result = client.infer(model, [image_input(module, images, False)], request_compression_algorithm="gzip", response_compression_algorithm="gzip")
    same(result.as_numpy("scores"), want["scores"], "gzip")
    print("http", model, "JSON and gzip")


def fails(call, *words):
    try:
        call()
    except InferenceServerException as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError(words)


def check_errors(protocol, client, images):
    module = MODULES[protocol]
    one = image_input(module, images[:1], False)
    not_found = "NOT_FOUND" if protocol == "grpc" else "404"
    wrong = module.InferInput("pixels", [1], "UINT8")
    wrong.set_data_from_numpy(np.zeros(1, np.uint8))
    fails(lambda: client.infer("nobody", [one]), not_found, "nobody", "mtcnn")
    fails(lambda: client.infer("mtcnn", [one], model_version="2"), not_found, 'only the version "1"')
    fails(lambda: client.get_model_metadata("nobody"), not_found, "nobody")
    fails(lambda: client.get_model_config("nobody"), not_found, "nobody")
    fails(lambda: client.get_inference_statistics("nobody"), not_found, "nobody")
    fails(lambda: client.infer("mtcnn", [one], outputs=[module.InferRequestedOutput("labels")]), '"labels" is unknown')
    fails(lambda: client.infer("mtcnn", [wrong]), '"pixels" is unknown')
    fails(lambda: client.infer("mtcnn", [image_input(module, [b"text"], False)]), "JPEG, PNG, GIF")
    fails(lambda: client.infer("mtcnn", [one], parameters={"min_confidence": "2"}), "parameters.min_confidence is 2")
    print(protocol, "errors")


def check_metadata(protocol, client):
    as_json = {"as_json": True} if protocol == "grpc" else {}
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("mtcnn") and client.is_model_ready("pigo", "1")
    server = client.get_server_metadata(**as_json)
    assert server["name"] == "mien" and "binary_tensor_data" in server["extensions"], server
    metadata = client.get_model_metadata("mtcnn", **as_json)
    outputs = {out["name"]: (out["datatype"], [int(n) for n in out["shape"]]) for out in metadata["outputs"]}
    assert metadata["versions"] == ["1"] and metadata["inputs"][0]["name"] == "image", metadata
    assert outputs == {"boxes": ("FP32", [-1, 4]), "landmarks": ("FP32", [-1, 5, 2]), "scores": ("FP32", [-1]), "counts": ("INT32", [-1])}, outputs
    config = client.get_model_config("mtcnn", **as_json)
    config = config.get("config", config)
    assert config["input"][0]["data_type"] == "TYPE_STRING" and len(config["output"]) == 4, config
    print(protocol, "metadata")


def statistics(client, protocol):
    answer = client.get_inference_statistics("pigo", **({"as_json": True} if protocol == "grpc" else {}))
    inference = answer["model_stats"][0]["inference_stats"]
    return {name: (int(part.get("count", 0)), int(part.get("ns", 0))) for name, part in inference.items()}


def check_statistics(clients, images):
    """Each image counts once, and takes time, whichever protocol asks."""
    for protocol, client in clients.items():
        before = statistics(client, protocol)
        client.infer("pigo", [image_input(MODULES[protocol], images * 2, False)])
        for asked, other in clients.items():
            after = statistics(other, asked)
            for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
                assert after[name][0] == before[name][0] + 2 * len(images), (name, before, after)
            assert after["success"][1] > before["success"][1] and after["compute_infer"][1] > before["compute_infer"][1], (before, after)
            assert after["fail"] == before["fail"], (before, after)
    print("statistics")


def check_contract(path):
    """Every message, field and method of the contract is one of tritonclient's."""
    with open(path, "rb") as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    ours, theirs = pool.FindFileByName("inference/grpc_service.proto"), service_pb2.DESCRIPTOR.pool
    compared = 0

    def compare(message):
        nonlocal compared
        other = theirs.FindMessageTypeByName(message.full_name)
        for field in message.fields:
            public = other.fields_by_name[field.name]
            for what in ("number", "type", "is_repeated", "json_name"):
                assert getattr(field, what) == getattr(public, what), (field.full_name, what)
            for what in ("message_type", "enum_type", "containing_oneof"):
                a, b = getattr(field, what), getattr(public, what)
                assert (a and a.full_name) == (b and b.full_name), (field.full_name, what)
            compared += 1
        for nested in message.nested_types:
            compare(nested)

    for message in ours.message_types_by_name.values():
        compare(message)
    for enum in ours.enum_types_by_name.values():
        public = theirs.FindEnumTypeByName(enum.full_name)
        assert {v.name: v.number for v in enum.values} == {v.name: v.number for v in public.values}, enum.full_name
    service = theirs.FindServiceByName("inference.GRPCInferenceService")
    for method in ours.services_by_name["GRPCInferenceService"].methods:
        public = service.methods_by_name[method.name]
        for what in ("input_type", "output_type"):
            assert getattr(method, what).full_name == getattr(public, what).full_name, method.full_name
    print("contract", compared, "fields")


def write_data(path, images):
    """Writes the images as perf_analyzer reads them: one request with all, and one with each."""
    def content(batch):
        raw = b"".join(struct.pack("<I", len(image)) + image for image in batch)
        return {"image": {"content": {"b64": base64.b64encode(raw).decode()}, "shape": [len(batch)]}}

    with open(path, "w", encoding="utf-8") as file:
        json.dump({"data": [content(images)] + [content([image]) for image in images]}, file)


def main():
    address, contract, data = sys.argv[1:4]
    images = []
    for path in sys.argv[4:]:
        with open(path, "rb") as file:
            images.append(file.read())
    clients = {protocol: module.InferenceServerClient(address) for protocol, module in MODULES.items()}
    for protocol, client in clients.items():
        check_metadata(protocol, client)
        for model in ("mtcnn", "pigo"):
            check_inference(protocol, client, address, model, images)
        check_errors(protocol, client, images)
    check_json(clients["http"], address, "mtcnn", images)
    check_statistics(clients, images)
    check_contract(contract)
    write_data(data, images)


main()
