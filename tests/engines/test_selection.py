"""Who computes: what is asked for, or the fastest of what is installed, found out on the images and kept."""

import importlib.util
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino
import pytest
from tests.deploy.conftest import TINY
from tests.deploy.conftest import folder_of as model_of
from tests.engines.test_onnx_file import folder_of, linear

import vitreous
from vitreous.engines import measured_engine, openvino_engine, selection
from vitreous.engines.measured_engine import MeasuredEngine
from vitreous.engines.openvino_engine import OpenVinoEngine
from vitreous.errors import CheckpointError, ConfigError, UnknownName
from vitreous.predictor import Predictor

PIXELS = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
EXPECTED = ((PIXELS.reshape(10, 4) / 255 - 0.25) / 0.5) @ np.arange(8).reshape(4, 2)


@pytest.fixture
def export(tmp_path, monkeypatch):
    """An export to ONNX, nothing measured yet, and engines that are tried at once."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measured_engine, "BEGIN", 0.0)
    return folder_of(tmp_path / "export", linear())


@pytest.fixture
def timed(monkeypatch):
    """Seconds of a pass, by engine; the passes that were timed."""
    seconds, passes = {"onnxruntime": 0.3, "openvino": 0.2}, []

    def time_pass(engine, what, pixels):
        passes.append((engine.name, what, len(pixels)))
        return seconds[engine.name] * len(pixels) / 10

    monkeypatch.setattr(measured_engine, "time_pass", time_pass)
    return seconds, passes


def right(engine, pixels=PIXELS):
    np.testing.assert_allclose(engine.logits(pixels), EXPECTED[: len(pixels)], rtol=1e-5)
    return engine


def test_the_faster_engine_is_taken_and_kept(export, timed, tmp_path):
    seconds, passes = timed
    first = right(vitreous.load(export).engine)
    assert (first.name, passes[-1][0]) == ("openvino", "openvino")
    assert first.chosen == (
        "openvino computes: of 10 images onnxruntime takes 1.50 times as long on this machine; --engine chooses another"
    )
    assert first.notes == ()
    count = len(passes)
    second = right(vitreous.load(export).engine)
    assert (second.name, second.chosen, len(passes)) == ("openvino", first.chosen, count)
    seconds["openvino"] = 0.29  # not clearly faster
    for kept in (tmp_path / "cache" / "engines").iterdir():
        kept.write_text("[1, ")
    assert right(vitreous.load(export).engine).name == "onnxruntime"


def test_one_image_and_many_are_measured_apart(export, timed):
    seconds, passes = timed
    engine = right(vitreous.load(export).engine)
    seconds["openvino"] = 0.9
    assert right(engine, PIXELS[:1]).name == "onnxruntime"
    assert right(engine).name == "openvino"
    assert {count for _, _, count in passes} == {1, 2, 10}


def test_an_engine_that_is_fixed_computes_all_that_follows(export, timed, monkeypatch):
    monkeypatch.setattr(measured_engine, "BEGIN", 1e9)
    predictor = vitreous.load(export, batch=10)
    assert predictor.engine.name == "onnxruntime"
    predictor.fix_engine()
    assert {name for name, *_ in timed[1]} == {"onnxruntime", "openvino"}
    timed[1].clear()
    for count in (10, 1):
        assert right(predictor.engine, PIXELS[:count]).name == "openvino"
    predictor.fix_engine()
    assert not timed[1]


def test_a_measurement_is_of_one_machine_and_of_certain_versions(export, timed, monkeypatch):
    right(vitreous.load(export).engine)
    for name, value in (
        ("find_version", lambda _: "99"),
        ("count_threads", lambda: 17),
        ("read_cpu_model", lambda: "Z80"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(measured_engine, name, value)
            assert vitreous.load(export).engine.kept["many"] == {}
    assert vitreous.load(export, precision="auto").engine.kept["many"] == {}
    assert vitreous.load(export).engine.kept["many"]["engine"] == "openvino"


def test_a_handful_of_images_measures_nothing(export, timed, monkeypatch):
    monkeypatch.setattr(measured_engine, "BEGIN", 60.0)
    engine = right(right(vitreous.load(export).engine))
    assert (engine.name, timed[1], engine.chosen) == ("onnxruntime", [], "")
    assert engine.notes == ("auto: begun with onnxruntime; too few images to try openvino",)


def test_an_engine_that_fails_is_passed_over(export, timed, monkeypatch):
    def build(folder, name, device, precision):
        if name == "openvino":
            raise CheckpointError("no")
        return built(folder, name, device, precision)

    built = selection._build
    monkeypatch.setattr(selection, "_build", build)
    engine = right(vitreous.load(export).engine)
    assert engine.name == "onnxruntime" and "openvino can't compute the export" in engine.chosen


@pytest.mark.parametrize("failing", [1, 2])
def test_engines_that_fail_while_they_are_measured_are_passed_over(export, monkeypatch, failing):
    """The first one too, as where only whole batches exceed the memory; if none is left, its error is the answer."""
    passes = []

    def time_pass(engine, what, pixels):
        passes.append(engine.name)
        if len(passes) > 1 and engine.name in ("onnxruntime", "openvino")[:failing]:
            raise MemoryError(engine.name)
        return 0.01

    monkeypatch.setattr(measured_engine, "time_pass", time_pass)
    engine = vitreous.load(export).engine
    if failing == 2:
        with pytest.raises(MemoryError, match="onnxruntime"):
            engine.logits(PIXELS)
        return
    assert right(engine).name == "openvino" and "onnxruntime can't compute the export" in engine.chosen


def test_an_engine_that_fails_while_it_computes_is_passed_over(export, monkeypatch):
    def fail(self, inputs):
        raise RuntimeError("Exception from src/inference: no kernel")

    monkeypatch.setattr(OpenVinoEngine, "run", fail)
    assert right(vitreous.load(export).engine).name == "onnxruntime"
    said = r"^openvino can't compute .*model\.onnx for images of shape \(3, 1, 2, 2\), float32: Exception .* no kernel$"
    with pytest.raises(CheckpointError, match=said):
        vitreous.load(export, engine="openvino").engine.logits(PIXELS[:3])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_that_share_an_engine_get_their_own_images_outputs(export, monkeypatch, engine, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    shared = vitreous.load(export, engine=engine).engine
    given = np.random.default_rng(0).integers(256, size=(240, 1, 2, 2, 1), dtype=np.uint8)
    wanted = [shared.logits(one) for one in given]
    with ThreadPoolExecutor(8) as pool:
        for found, expected in zip(pool.map(shared.logits, given), wanted, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        batches = given.reshape(40, 6, 2, 2, 1)
        for found, place in zip(pool.map(shared.logits, batches), range(0, 240, 6), strict=True):
            np.testing.assert_allclose(found, np.concatenate(wanted[place : place + 6]), rtol=1e-4, atol=1e-4)


def test_a_cache_that_cannot_be_written_changes_nothing(export, timed, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert right(vitreous.load(export).engine).name == "openvino"


def test_a_file_of_an_export_stands_for_its_folder(export, tmp_path):
    assert right(vitreous.load(export / "model.onnx", engine="onnxruntime").engine).name == "onnxruntime"
    shutil.copy(export / "model.onnx", tmp_path / "alone.onnx")
    with pytest.raises(CheckpointError, match="of those vitreous opens the folders that its own export writes"):
        vitreous.load(tmp_path / "alone.onnx")


def test_what_is_named_is_taken_and_what_is_missing_is_said(export, monkeypatch):
    for name in ("onnxruntime", "openvino"):
        engine = right(vitreous.load(export, engine=name).engine)
        assert engine.name == name and not isinstance(engine, MeasuredEngine)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "vitreous.runtime.packages.find_spec", lambda name: None if name == "onnxruntime" else real(name)
    )
    assert right(vitreous.load(export).engine).name == "openvino"
    with pytest.raises(
        ConfigError, match=r"needs onnxruntime, which is not installed: pip install 'vitreous\[export\]'"
    ):
        vitreous.load(export, engine="onnxruntime")
    with pytest.raises(
        ConfigError, match="an export to onnx, which torch doesn't run; choose --engine onnxruntime or openvino"
    ):
        vitreous.load(export, engine="torch")


@pytest.mark.parametrize("precision", ["fp16", "int8", "bf16"])
def test_a_precision_that_an_engine_lacks_is_one_line(export, precision, monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(
        ConfigError, match=f"onnxruntime doesn't compute this model in {precision}; choose --precision fp32"
    ) as told:
        vitreous.load(export, engine="onnxruntime", precision=precision)
    assert "\n" not in str(told.value)
    if precision == "bf16":
        return
    for load in (
        lambda: vitreous.load(export, precision=precision),
        lambda: vitreous.load(export, engine="openvino", precision=precision),
    ):
        lacks = "doesn't compute this model in int8" if precision == "int8" else "this processor doesn't multiply fp16"
        with pytest.raises(ConfigError, match=f"{lacks}.*; choose --precision fp32"):
            load()
    lacks = {
        "fp16": "torch doesn't compute this model in fp16; choose",
        "int8": "this model was not calibrated for int8; write",
    }
    with pytest.raises(ConfigError, match=lacks[precision]):
        Predictor(model_of(TINY), "cpu", precision=precision)
    lacks["int8"] = "the model computes in fp32, as it was loaded, not in int8; choose"
    with pytest.raises(ConfigError, match=lacks[precision]):
        vitreous.embed(Predictor(model_of(TINY), "cpu"), data="digits", precision=precision)


def test_an_unknown_precision_is_named(export):
    with pytest.raises(UnknownName, match="fp23"):
        vitreous.load(export, precision="fp23")


def test_auto_takes_bfloat16_in_openvino_only_where_it_is_announced_and_faster(export, monkeypatch):
    found = {}
    for announced in (["FP32"], ["FP32", "BF16"]):
        monkeypatch.setattr(openvino.Core, "get_property", lambda *_, announced=announced: announced)
        for times in (0.5, 1.1, 1.9):
            monkeypatch.setattr(openvino_engine, "measure_bf16", lambda _, times=times: times)
            engine = vitreous.load(export, engine="openvino", precision="auto").engine
            found[announced[-1], times] = engine.precision
            right(vitreous.load(export, engine="openvino").engine)
    assert {case for case, precision in found.items() if precision == "bf16"} == {("BF16", 1.9)}
    assert set(found.values()) == {"fp32", "bf16"}


def test_bfloat16_is_measured_by_both_precisions_products(monkeypatch):
    """A clock that moves as each precision's graph computes."""
    clock, compile_model = [0.0], openvino.Core.compile_model

    def compile_timed(core, graph, device, settings):
        run, step = compile_model(core, graph, device, settings), {"f32": 3.0, "bf16": 2.0}
        assert settings["INFERENCE_NUM_THREADS"] == 1

        def tick(values):
            clock[0] += step[settings["INFERENCE_PRECISION_HINT"]]
            return run(values)

        return tick

    monkeypatch.setattr(openvino.Core, "compile_model", compile_timed)
    monkeypatch.setattr("vitreous.runtime.precision.time.perf_counter", lambda: clock[0])
    assert openvino_engine.measure_bf16.__wrapped__(1) == pytest.approx(1.5)


@pytest.mark.parametrize("images", [1, 10])
def test_openvinos_threads_are_not_pinned(export, images, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    engine = right(vitreous.load(export, engine="openvino").engine, PIXELS[:images])
    assert engine.one.get_property("ENABLE_CPU_PINNING") is False
    assert (engine.many is not None) == (images > 1)
