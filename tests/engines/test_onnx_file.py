"""ONNX files made to harm: refused before a runtime opens them. Written by onnx itself."""

import hashlib
import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitreous
from vitreous.engines.exported_folder import StoredFile
from vitreous.engines.onnx_file import check_onnx
from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.settings import to_dict


def graph_of(nodes, tensors=(), outputs=(("logits", ["batch", 2]),)):
    """Return a model from (batch, 1, 2, 2) to what the nodes make of it."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 2, 2])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    graph = helper.make_graph(list(nodes), "graph", [pixels], given, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def linear(**more):
    weight = constant("weight", np.arange(8, dtype=np.float32).reshape(4, 2))
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    return graph_of(nodes, [weight], **more)


def folder_of(path, model, classes=("a", "b"), **changed):
    """Write an export around a model, as one who means harm would: sizes and hashes are right."""
    path.mkdir(exist_ok=True)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (path / "model.onnx").write_bytes(data)
    stored = {"file": "model.onnx", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document = {
        "vitreous_export": 1,
        "target": "onnx",
        "files": [stored],
        "graph": {"image": [2, 2]},
        "preprocess": to_dict(PreprocessConfig((2, 2), mode="L", crop=1.0, mean=(0.25,), std=(0.5,))),
        "decode": to_dict(DecodeConfig()),
        "classes": list(classes),
    }
    (path / "config.json").write_text(json.dumps(document | changed))
    return path


def elsewhere(model, location):
    """Let the weight lie in another file."""
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


def grown(kind, asked):
    """Let a constant shape ask for memory, of which one value is added to the output."""
    shape = constant("asked", np.array(asked, np.int64))
    first = ["asked"] if kind == "ConstantOfShape" else ["weight", "asked"]
    nodes = [helper.make_node(kind, first, ["large"]), helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0)]
    model = linear()
    model.graph.initializer.append(shape)
    model.graph.node[1].output[0] = "small"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["small", "most"], ["logits"])])
    return model


def disguised(how):
    """As `grown`, with a shape that isn't a plain constant."""
    asked, model = np.array([2**20, 2**20]), grown("ConstantOfShape", [1])
    graph = model.graph
    del graph.initializer[1]
    if how == "named":
        first = helper.make_node("Constant", [], ["asked"], value=constant("other", asked.astype(np.int64)))
    elif how == "list":
        first = helper.make_node("Constant", [], ["asked"], value_ints=asked.tolist())
    elif how == "cast":
        graph.initializer.append(helper.make_tensor("before", TensorProto.FLOAT, [2], asked.astype(np.float32)))
        first = helper.make_node("Cast", ["before"], ["asked"], to=TensorProto.INT64)
    else:
        graph.initializer.append(constant("before", asked.astype(np.int64)))
        first = helper.make_node("Identity", ["before"], ["asked"])
    nodes = [first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def huge():
    model = linear()
    model.graph.initializer[0].dims[:] = [2**30, 2**20]
    return model


def nested(depth):
    graph = linear().graph
    for _ in range(depth):
        node = helper.make_node("If", ["condition"], ["out"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    return helper.make_model(graph)


def test_a_sound_file_runs(tmp_path):
    """Numbers by hand: (pixels / 255 - 0.25) / 0.5 times the weight."""
    pixels = np.array([[0, 51], [102, 255]], np.uint8)
    flat = (pixels.reshape(1, 4) / 255 - 0.25) / 0.5
    for engine in ("onnxruntime", "openvino"):
        run = vitreous.load(folder_of(tmp_path / "sound", linear()), engine=engine).engine
        np.testing.assert_allclose(run.logits(pixels[None, :, :, None]), flat @ np.arange(8).reshape(4, 2), rtol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("model", "said"), [
    (lambda: elsewhere(linear(), "../../secret"), "refers to tensors in '../../secret'"),
    (lambda: elsewhere(linear(), "/etc/passwd"), "refers to tensors in '/etc/passwd'"),
    (lambda: elsewhere(linear(), "config.json"), "a file that its export didn't write"),
    (huge, "claims .* of tensors in a file of"),
    (lambda: grown("ConstantOfShape", [2**20, 2**20]), "needs a tensor of 1,099,511,627,776 values"),
    (lambda: grown("Expand", [2**30, 4, 2]), "needs a tensor of 8,589,934,592 values"),
    (lambda: grown("Tile", [2**20, 2**20]), "needs a tensor"),
    *((lambda how=how: disguised(how), "needs a tensor of 1,099,511,627,776 values") for how in ("named", "list", "cast", "same")),
    (lambda: nested(12), "more than 8 deep"),
    (lambda: b"\x80\x04no protobuf at all", "is damaged"),
    (lambda: linear().SerializeToString()[:-9], "is damaged|can't open"),
    (lambda: linear(outputs=(("boxes", ["batch", 2]),)), "says that its graph returns logits|can't open"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_files_made_to_harm_are_refused_in_one_line(tmp_path, engine, model, said):
    with pytest.raises(CheckpointError, match=said) as told:
        vitreous.load(folder_of(tmp_path / "harm", model()), engine=engine)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_for_other_images_is_one_line(tmp_path, engine):
    """Whether the folder contradicts itself, or the file contradicts the folder."""
    size = to_dict(PreprocessConfig((4, 4), mode="L", crop=1.0))
    with pytest.raises(CheckpointError, match="its images are 4x4, but its graph takes 2x2"):
        vitreous.load(folder_of(tmp_path / "itself", linear(), preprocess=size), engine=engine)
    both = {"preprocess": size, "graph": {"image": [4, 4]}}
    with pytest.raises(
        CheckpointError, match=rf"^{engine} can't compute .* for images of shape \(1, 1, 4, 4\), float32: \S"
    ):
        run = vitreous.load(folder_of(tmp_path / "file", linear(), **both), engine=engine).engine
        run.logits(np.zeros((1, 4, 4, 1), np.uint8))


def test_an_openvino_file_that_asks_for_too_much_is_refused_before_it_is_compiled(tmp_path):
    from openvino import Model, opset13, save_model

    pixels = opset13.parameter([-1, 1, 2, 2], np.float32, name="pixels")
    large = opset13.broadcast(opset13.constant(np.ones((1, 1), np.float32)), opset13.constant([2**17, 2**16]))
    most = opset13.reduce_max(large, opset13.constant([0, 1]), False)
    flat = opset13.reshape(pixels, opset13.constant([-1, 4]), False)
    logits = opset13.add(opset13.matmul(flat, opset13.constant(np.ones((4, 2), np.float32)), False, False), most)
    logits.output(0).get_tensor().set_names({"logits"})
    path = folder_of(tmp_path / "harm", linear())
    (path / "model.onnx").unlink()
    save_model(Model([logits], [pixels], "graph"), path / "model.xml", compress_to_fp16=False)
    document = json.loads((path / "config.json").read_text())
    files = [to_dict(StoredFile.find(path, name)) for name in ("model.xml", "model.bin")]
    (path / "config.json").write_text(json.dumps(document | {"target": "openvino", "files": files}))
    with pytest.raises(CheckpointError, match=r"needs a tensor of 8,589,934,592 values"):
        vitreous.load(path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_classes_that_are_not_the_graphs_are_refused(tmp_path, engine):
    with pytest.raises(CheckpointError, match="names 3 classes, but its graph returns 2 logits"):
        vitreous.load(folder_of(tmp_path / "classes", linear(), classes=("a", "b", "c")), engine=engine)


def test_tensors_beside_the_file_are_read_where_the_export_names_them(tmp_path):
    data = np.arange(8, dtype=np.float32).tobytes()
    path = folder_of(tmp_path / "beside", elsewhere(linear(), "model.onnx.data"))
    (path / "model.onnx.data").write_bytes(data)
    document = json.loads((path / "config.json").read_text())
    document["files"].append(
        {"file": "model.onnx.data", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    )
    (path / "config.json").write_text(json.dumps(document))
    found = vitreous.load(path).engine.logits(np.full((1, 2, 2, 1), 255, np.uint8))
    np.testing.assert_allclose(found, [[1.5 * 12, 1.5 * 16]], rtol=1e-6)


def test_sizes_are_those_of_onnx(tmp_path):
    """A file of many kinds of tensors claims what onnx says they take; nothing of them is held."""
    kinds = [np.float32, np.float16, np.int64, np.uint8, np.float64, np.bool_]
    model = linear()
    model.graph.initializer.extend(constant(str(kind), np.zeros((3, 5), kind)) for kind in kinds)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    check_onnx(tmp_path / "model.onnx", set(), (tmp_path / "model.onnx").stat().st_size)
    assert onnx.load(tmp_path / "model.onnx").graph.initializer[1].name == str(np.float32)


def looped(kind):
    """Return a model with a graph that repeats itself."""
    model = linear()
    model.graph.node.append(helper.make_node(kind, ["weight"], ["more"], body=linear().graph))
    return model


def many_dims(count):
    """Return a model with a constant of many dimensions, each as large as it can be."""
    model = linear()
    model.graph.initializer.append(TensorProto(name="deep", data_type=TensorProto.FLOAT, dims=[2**63 - 1] * count))
    return model


def chained(count):
    """Return a model with a chain of operators, each of which may grow what the one before has given."""
    model = linear()
    names = ["weight", *(f"e{number}" for number in range(count))]
    nodes = (helper.make_node("Expand", [one, one], [other]) for one, other in pairwise(names))
    model.graph.node.extend(nodes)
    return model


def astronomical():
    """Return a model that asks for a number of values of more digits than Python prints."""
    model = grown("ConstantOfShape", [1])
    del model.graph.initializer[1]
    names = [f"part{number}" for number in range(20)]
    model.graph.initializer.extend(constant(name, np.full(16, 2**62)) for name in names)
    nodes = [helper.make_node("Concat", names, ["asked"], axis=0), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def of_function():
    """Return a model with a function one of whose attributes is by default a tensor in another file."""
    model = linear()
    inner = helper.make_node("Constant", [], ["y"])
    function = helper.make_function("own", "F", [], ["y"], [inner], [helper.make_opsetid("", 20)])
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.txt")
    function.attribute_proto.append(helper.make_attribute("value", tensor))
    model.functions.append(function)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (looped("Loop"), "has a Loop, which may never end; it can't be used"),
        (looped("Scan"), "has a Scan, which may never end; it can't be used"),
        (many_dims(200_000), "has a tensor of more than 64 dimensions; it can't be used"),
        (chained(5_000), "has shapes that are computed in too many steps; it can't be used"),
        (astronomical(), r"needs a tensor of more than 10\^18 values, more than the limit"),
        (of_function(), "refers to tensors in 'secret.txt', a file that its export didn't write"),
    ],
    ids=["Loop", "Scan", "dimensions", "steps", "digits", "function"],
)
def test_what_would_take_forever_is_refused_at_once(tmp_path, model, said):
    folder = folder_of(tmp_path / "exported", model)
    with pytest.raises(CheckpointError, match=said) as told:
        check_onnx(folder / "model.onnx", set(), 10**9)
    assert "\n" not in str(told.value)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")
def test_sizes_that_only_running_shows_end_in_one_line(tmp_path):
    """A constant counts once however often it is used; ONNX Runtime's memory is bounded for that."""
    model = grown("ConstantOfShape", [1])
    del model.graph.initializer[1]
    model.graph.initializer.append(constant("n", np.array([1_200], np.int64)))
    nodes = [helper.make_node("Concat", ["n", "n", "n"], ["asked"], axis=0), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    folder = folder_of(tmp_path / "exported", model)
    code = (
        "import re, sys, numpy as np, vitreous\nfrom vitreous.errors import CheckpointError\nfrom vitreous.engines import onnxruntime_engine as engine\n"
        "engine.read_memory = lambda: 2**30\nmodel = vitreous.load(sys.argv[1], engine='onnxruntime')\n"
        "try:\n    model(np.zeros((2, 2), np.uint8))\nexcept CheckpointError as error:\n    print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    said, memory = done.stdout.splitlines()
    assert said.startswith("onnxruntime can't compute") and int(memory) < 10**6, done.stdout + done.stderr
