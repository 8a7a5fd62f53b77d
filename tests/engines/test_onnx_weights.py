"""Large weights that a model refers to in its own file. Held against onnx, which resolves such references, and against ONNX Runtime
given the file itself."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from tests.engines.test_onnx_file import elsewhere, folder_of, linear

import vitreous
from vitreous.engines import onnxruntime_engine
from vitreous.engines.onnx_weights import FOLDER, LARGE, refer_to_weights
from vitreous.engines.protobuf import encode_bytes, encode_number, read_encoded, read_fields
from vitreous.errors import CheckpointError

WIDE = LARGE // 4 // 4  # columns of a float32 weight of 4 rows that is just large enough
drawn = np.random.default_rng(5)


def graph_of(weight, more=(), tensors=()):
    """Return a model of four pixels times a weight, of which the mean of each half is taken."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        *(more or [helper.make_node("MatMul", ["flat", "weight"], ["wide"])]),
        helper.make_node("Reshape", ["wide", "halves"], ["parts"]),
        helper.make_node("ReduceMean", ["parts", "last"], ["logits"], keepdims=0),
    ]
    halves, last = np.array([0, 2, -1]), np.array([2])
    given = {"weight": weight, "halves": halves, "last": last, **dict(tensors)}
    initializers = [numpy_helper.from_array(value, name) for name, value in given.items()]
    graph = helper.make_graph(nodes, "graph", [pixels], [logits], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key="vitreous.origin", value="é" * 300)
    return model


def weight(columns=WIDE, dtype=np.float32):
    return drawn.standard_normal((4, columns)).astype(dtype)


def write(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def resolve(path):
    """Return the model that refers to a file's weights, and the same with its references resolved by onnx."""
    referring, whole = (onnx.load_from_string(refer_to_weights(path)) for _ in range(2))
    load_external_data_for_model(whole, str(path.parent))
    return referring, whole


def referred(model):
    return {one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL}


def dequantised(values=None):
    """Return a model whose weights are int8, as static quantisation leaves them."""
    more = [
        helper.make_node("DequantizeLinear", ["weight", "scale"], ["wide weight"]),
        helper.make_node("MatMul", ["flat", "wide weight"], ["wide"]),
    ]
    values = (4 * weight(WIDE * 4)).astype(np.int8) if values is None else values
    return graph_of(values, more, {"scale": np.float32(0.1)})


@pytest.mark.parametrize("model", [graph_of(weight(WIDE * 4)), dequantised()], ids=["float32", "int8"])
def test_references_lead_to_the_same_bytes(tmp_path, model):
    values = numpy_helper.to_array(model.graph.initializer[0])
    file = write(tmp_path / "model.onnx", model)
    referring, whole = resolve(file)
    assert referred(referring) == {"weight"}
    plain = {one.name: numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}
    found = {one.name: numpy_helper.to_array(one) for one in whole.graph.initializer}
    assert list(found) == list(plain)
    for name, value in plain.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value)
    assert len(refer_to_weights(file)) < file.stat().st_size - values.nbytes + 200
    for model in (referring, whole):
        del model.graph.initializer[:]
    before = onnx.load(file)
    del before.graph.initializer[:]
    assert referring.SerializeToString() == whole.SerializeToString() == before.SerializeToString()


def product(left, right, values, *more):
    """Return a model whose product reads the weight as it is told."""
    return graph_of(values, [*more, helper.make_node("MatMul", [left, right], ["wide"])])


def edited(edit, model=None):
    """Return a model that an edit of its graph has changed."""
    model = graph_of(weight()) if model is None else model
    edit(model.graph)
    return model


def double():
    """Return a product in float64."""
    down = helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT)
    up = helper.make_node("Cast", ["flat"], ["f"], to=TensorProto.DOUBLE)
    return graph_of(weight(dtype=np.float64), [up, helper.make_node("MatMul", ["f", "weight"], ["w"]), down])


def branch(graph):
    """Add a node with graphs of its own, which read the weight."""
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["weight"], ["out"])], "inner", [], [out])
    graph.node.append(helper.make_node("If", ["condition"], ["unused"], then_branch=inner, else_branch=inner))


def with_function():
    """Return a model with a function, which has users of its own."""
    model, body = graph_of(weight()), [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)]))
    return model


INFO = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4, WIDE])
STAY = {
    "left": lambda: product("weight", "t", weight().T.copy(), helper.make_node("Transpose", ["flat"], ["t"])),
    "float64": double,
    "three dimensions": lambda: graph_of(weight()[None]),
    "input": lambda: edited(lambda graph: graph.input.append(INFO)),
    "output": lambda: edited(lambda graph: graph.output.append(INFO)),
    "twice": lambda: edited(lambda graph: graph.initializer.append(numpy_helper.from_array(weight(), "weight"))),
    "another domain": lambda: edited(lambda graph: setattr(graph.node[1], "domain", "com.microsoft")),
    "other operator": lambda: edited(lambda graph: setattr(graph.node[1], "op_type", "Mul")),
    "reference beside": lambda: edited(lambda graph: graph.initializer[0].external_data.add(key="offset", value="0")),
    "within": lambda: edited(branch),
    "function": with_function,
    "dequantised and read": lambda: edited(
        lambda graph: graph.node.append(helper.make_node("Identity", ["wide weight"], ["more"])), dequantised()
    ),
    "embedding": lambda: edited(lambda graph: setattr(graph.node[2], "op_type", "Gather"), dequantised()),
}
"""Models whose weight ONNX Runtime would keep mapped, or read otherwise."""


@pytest.mark.parametrize("how", STAY)
def test_what_would_stay_mapped_or_be_read_otherwise_stays_inside(tmp_path, how):
    assert refer_to_weights(write(tmp_path / "model.onnx", STAY[how]())) is None


def test_fields_that_come_twice_stay_inside(tmp_path):
    """protobuf takes the last one, of two graphs the sum."""
    data = graph_of(weight()).SerializeToString()
    for number, more in ((7, b""), (7, encode_bytes(5, encode_bytes(8, b"weight") + encode_bytes(9, b"abcd")))):
        (tmp_path / "model.onnx").write_bytes(data + encode_bytes(number, more))
        assert refer_to_weights(tmp_path / "model.onnx") is None


def test_what_is_not_laid_out_anew_stays_inside(tmp_path):
    both = [
        helper.make_node("MatMul", ["flat", "weight"], ["first"]),
        helper.make_node("ReduceSum", ["weight"], ["sum"], keepdims=0),
        helper.make_node("Add", ["first", "sum"], ["second"]),
        helper.make_node("Add", ["second", "bias"], ["third"]),
        helper.make_node("MatMul", ["flat", "other"], ["fourth"]),
        helper.make_node("Add", ["third", "fourth"], ["wide"]),
    ]
    more = {"bias": drawn.standard_normal(LARGE).astype(np.float32), "other": weight(LARGE)}
    referring, _ = resolve(write(tmp_path / "model.onnx", graph_of(weight(LARGE), both, more)))
    assert referred(referring) == {"other"}


def test_small_weights_and_those_beside_the_file_are_left(tmp_path):
    assert refer_to_weights(write(tmp_path / "small.onnx", graph_of(weight(WIDE - 1)[:, : WIDE - 2]))) is None
    assert refer_to_weights(write(tmp_path / "large.onnx", graph_of(weight(WIDE)))) is not None
    assert refer_to_weights(write(tmp_path / "beside.onnx", elsewhere(linear(), "model.onnx.data"))) is None


@pytest.mark.parametrize("place", ["plain", "Grüße 图"])
def test_the_engine_gives_the_files_own_outputs_and_keeps_no_map(tmp_path, place):
    model = graph_of(weight(WIDE * 8))
    predictor = vitreous.load(folder_of(tmp_path / place, model), engine="onnxruntime")
    pixels = drawn.integers(0, 256, (3, 2, 2, 1), np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = ((pixels / np.float32(255) - np.float32(0.25)) / np.float32(0.5)).transpose(0, 3, 1, 2).astype(np.float32)
    assert np.allclose(predictor.engine.logits(pixels), session.run(None, {"pixels": inputs})[0], rtol=1e-6, atol=1e-7)
    if sys.platform == "linux":
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_weights_are_referred_to_and_that_is_used(tmp_path, monkeypatch):
    given = []
    opened = onnxruntime.InferenceSession

    def watch(model, options, providers):
        given.append((model, options.get_session_config_entry(FOLDER) if isinstance(model, bytes) else ""))
        return opened(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watch)
    folder = folder_of(tmp_path / "one", graph_of(weight()))
    onnxruntime_engine.open_session(folder / "model.onnx", 1)
    ((model, place),) = given
    assert model == refer_to_weights(folder / "model.onnx") and place == str(folder)
    folder_of(folder, linear())
    onnxruntime_engine.open_session(folder / "model.onnx", 1)
    assert given[1:] == [(str(folder / "model.onnx"), "")]


def test_a_file_that_fails_so_is_opened_as_it_is(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "one", graph_of(weight()))
    monkeypatch.setattr(onnxruntime_engine, "refer_to_weights", lambda path: b"no model")
    assert onnxruntime_engine.open_session(folder / "model.onnx", 1).get_inputs()[0].name == "pixels"
    model = graph_of(weight())
    model.graph.initializer[0].dims[1] += 1  # more values than there are
    with pytest.raises(CheckpointError, match="ONNX Runtime can't open"):
        onnxruntime_engine.open_session(folder_of(tmp_path / "two", model) / "model.onnx", 1)


numbers = st.integers(0, 2**63 - 1)
fields = st.lists(st.tuples(st.integers(1, 2**29 - 1), st.one_of(numbers, st.binary(max_size=300))))


@given(fields)
def test_fields_are_read_as_they_are_written(written):
    data = b"".join(
        encode_number(number, value) if isinstance(value, int) else encode_bytes(number, value)
        for number, value in written
    )
    view = memoryview(data)
    assert [(number, one if isinstance(one, int) else bytes(one)) for number, one in read_fields(view)] == written
    assert b"".join(bytes(encoded) for _, _, encoded in read_encoded(view)) == data
