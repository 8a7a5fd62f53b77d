"""What each command's function returns in Python: the numbers that the command shows and writes."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.support.pictures import encoded, picture, write

import vitreous
from vitreous.api.descriptions import describe_validation
from vitreous.api.model_comparison import COMPARED, name_family
from vitreous.errors import CheckpointError, ConfigError, DataError, RunError, UnknownName
from vitreous.evaluation.baselines import Baselines
from vitreous.evaluation.published import PUBLISHED
from vitreous.model.kinds import build_config
from vitreous.training.reporter import Silent


class Listener(Silent):
    """A reporter that remembers what it was told."""

    def __init__(self):
        self.told = []

    def message(self, text):
        self.told.append(text)

    def phase(self, name):
        self.told.append(name)


def test_embed(command, trained, here):
    listener = Listener()
    found = vitreous.embed(trained, data="digits", layer="mean", out="python.npz", reporter=listener)
    command("embed", trained, "digits", "--layer", "mean", "--out", "command.npz").worked(
        str(found).replace("python", "command")
    )
    with np.load("python.npz") as one, np.load("command.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_array_equal(found.vectors, one["vector"])
        assert found.names == tuple(one["name"])
        assert found.labels == tuple(one["classes"][one["label"]])
    assert listener.told == [
        "opening the images",
        "features of 1,437 train images",
        "features of 360 validation images",
    ]
    assert (len(found), found.width, list(found.splits)) == (1797, 32, ["train", "validation"])


def test_embed_of_a_loaded_model_writes_nothing_unasked(trained, here):
    write(here / "images" / "[a].png", encoded(picture(0, 9, 9, 1)))
    model = vitreous.load(trained)
    found = vitreous.embed(model, here / "images")
    again = vitreous.embed(model, iter([here / "images" / "[a].png"]), cache=False)
    np.testing.assert_array_equal(found.vectors, again.vectors)
    assert found.path is None and sorted(path.name for path in here.iterdir()) == ["images"]
    assert "1 vectors of length 32" in found._repr_html_()
    with pytest.raises(ConfigError, match="not both"):
        vitreous.embed(model)
    with pytest.raises(ConfigError, match=r"ends in \.csv"):
        vitreous.embed("nowhere", here / "images", out="a.csv")
    with pytest.raises(DataError, match="does not exist"):
        vitreous.embed(model, "nothing.png")


def test_cka(command, trained, run, here):
    found = vitreous.cka(trained, run / "model", "digits", images=40, batch=16, unbiased=True)
    shown = command("cka", trained, run / "model", "digits", "--images=40", "--batch=16", "--unbiased", "--out=o")
    shown.worked(str(found), "report: o/report.html")
    document = json.loads(Path("o/report.json").read_text())
    assert np.array_equal(document["matrix"], found.cka.matrix)
    assert document.items() >= json.loads(json.dumps(found.to_dict())).items()
    assert found.names == ("run", "copy")
    assert found.save("python") == Path("python/report.html")
    assert json.loads(Path("python/report.json").read_text()) == document
    assert found._repr_html_().startswith("<iframe srcdoc=") and "<h1>" not in found._repr_html_()
    with pytest.raises(ConfigError, match="images is 3; it must be at least 4"):
        vitreous.cka(trained, run, "digits", images=3)


def test_convert(command, trained, here):
    listener = Listener()
    found = vitreous.convert(trained, "python", image=(16, 16), reporter=listener)
    shown = command("convert", trained, "command", "--image", "16", "16").worked()
    assert shown == f"{listener.told[0]}\n{found}\nnext: vitreous inspect command\n".replace("python", "command")
    assert found.proof.difference == 0 and found.report.resized
    assert vitreous.load("python").folder.preprocess.size == (16, 16)
    with pytest.raises(UnknownName, match="did you mean 'timm'"):
        vitreous.convert(trained, "other", "tim")
    with pytest.raises(CheckpointError, match="exists already"):
        vitreous.convert(vitreous.load(trained).folder, "python")


def test_models(command):
    found = vitreous.models("?/16")
    command("models", "?/16").worked(str(found), "next: vitreous inspect FILE")
    assert [one.name for one in found.models] == ["S/16", "B/16", "L/16", "H/16", "g/16", "G/16"]
    assert next(one for one in found.models if one.name == "B/16").parameters == 86_567_656
    with pytest.raises(UnknownName, match="unknown model"):
        vitreous.models("X")


def test_models_side_by_side(command):
    found = vitreous.models("EfficientNet-B0", compare=True, batch=2)
    [model] = found.models
    assert (model.family, model.cost.parameters, model.cost.batch) == ("EfficientNet", 5_288_548, 2)
    assert model.cost.range[0] <= model.cost.images_per_second <= model.cost.range[1]
    assert [(one.top1, one.source) for one in model.published] == [(77.1, "1905.11946, table 2")]
    done = command("models", "S/32", "--compare", "--batch", "1")
    assert done.code == 0 and "79.58%  ImageNet-21k, then ImageNet at 384 pixels: AugReg" in done.out
    assert "untrained weights" in done.out
    command("models", "--compare", "--batch", "0").refused("it must be a whole number, at least 1")
    command("models", "--batch", "2").refused("--compare")
    command("models", "--compare", "--pretrained").refused("give one of them")
    command("models", "G/8", "--compare", "--batch", "100000").refused("give a smaller --batch")


def test_published_figures_are_of_models_that_can_be_built():
    for one in PUBLISHED:
        assert build_config(one.model).classes == 1000 and 50 < one.top1 < 95 and one.source
    assert len({(one.model, one.top1, one.trained) for one in PUBLISHED}) == len(PUBLISHED)
    assert {name_family(name) for name in COMPARED} == {
        "ViT",
        "hybrid",
        "ResNet (BiT)",
        "Swin Transformer",
        "EfficientNet",
    }


def test_a_run_is_inspected_that_holds_baselines_too(command, run):
    """A record of no step of its own, behind the last one."""
    lines = command("inspect", run).worked()
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps({"kind": "baselines", **asdict(Baselines(0.1, 0.4, 20, 10))}) + "\n")
    assert command("inspect", run).worked() == lines
    assert "step 6 of 6" in lines


def test_of_equal_evaluations_the_best_is_the_one_that_was_kept():
    measured = [{"step": step, "top1": top1, "best": step != 1} for step, top1 in ((1, 0.5), (2, 0.75), (3, 0.75))]
    assert describe_validation(measured).endswith("best (step 3)")
    measured[-1]["best"] = False
    assert describe_validation(measured).endswith("best (step 2)")


def test_a_folder_of_several_runs_leads_to_one(command, here, trained):
    """As a search of rates and a sweep do, by the run that is handed over or else the first."""
    shutil.copytree(trained, here / "found" / "lr=0.1")
    command("report", "found").refused("did you mean found/lr=0.1?")
    shutil.copytree(trained, here / "found" / "final")
    command("report", "found").refused("did you mean found/final?")
    command("evaluate", "found").refused("is not a model folder", "did you mean found/final?")
    (here / "found" / "sweep.json").write_text('{"vitreous_sweep": 2, "runs": {}}')
    command("inspect", "found").refused("found is a sweep; `vitreous runs found` compares its runs")


def test_inspect(command, trained, here):
    write(here / "a.png", encoded(picture(0, 9, 7, 1)))
    kinds = {trained: "run", trained / "model": "model", "digits": "data", here / "a.png": "image"}
    found = {path: vitreous.inspect(path) for path in kinds}
    assert {path: one.kind for path, one in found.items()} == kinds
    for path, one in found.items():
        assert command("inspect", path).worked() == f"{one}\n"
    assert found[trained / "model"].facts.classes == tuple(map(str, range(10)))
    assert found["digits"].facts.train == 1437
    assert found[here / "a.png"].facts.size == (9, 7)
    with pytest.raises(DataError, match="no such file"):
        vitreous.inspect("nowhere")
    for name in ("e.npz", "e.parquet"):
        command("embed", trained, here / "a.png", "--out", name).worked()
        command("inspect", name).refused(f"{name} holds vectors of 1 image by", f"similar IMAGE --in {name}")
    write(here / "photos.zip", b"PK\3\4")
    with pytest.raises(DataError, match="unpack it, and name the folder"):
        vitreous.inspect("photos.zip")
    for place, name in enumerate(("cats.bin", "$RECYCLE.BIN", "dogs.pt")):
        write(here / "animals" / name / "1.png", encoded(picture(place)))
        write(here / "animals" / name / "2.png", encoded(picture(place + 9)))
    assert vitreous.inspect("animals").facts.counts.keys() == {"cats.bin", "dogs.pt"}
    with pytest.raises(UnknownName, match="did you mean 'family'"):
        vitreous.inspect(trained / "model", famly="mae")


def test_report(command, run):
    found = vitreous.report(run)
    before = found.path.read_text()
    assert command("report", run).worked() == f"{found}\n"
    assert len(before) == len(found.path.read_text())
    assert found._repr_html_().startswith("<iframe srcdoc=")
    with pytest.raises(RunError):
        vitreous.report(run / "model")


def test_a_study_that_there_is_not(here):
    with pytest.raises(UnknownName, match="did you mean 'pooling'"):
        vitreous.study("poling")
    with pytest.raises(UnknownName, match="unknown scale 'huge'"):
        vitreous.study("pooling", scale="huge")
    assert list(here.iterdir()) == []


TINY = {"model": "mu/4", "dry_run": True}


def test_train_takes_settings_by_their_names():
    given = {"duration": "3st", "batch": 16, "seed": 7, "workers": 0}
    found = vitreous.train("digits", **TINY, **given, optimizer={"lr": 1e-3}, settings={"optimizer": {"clip": 0.5}})
    same = vitreous.train("digits", **TINY, settings={**given, "optimizer": {"lr": 1e-3, "clip": 0.5}})
    assert found.config == same.config
    more = {"minutes": None, "batch": None, "augment": None}
    assert vitreous.train("digits", **TINY, **more).config == vitreous.train("digits", **TINY).config
    both = vitreous.train(
        "digits", **TINY, config={"optimizer": {"clip": 0.25}}, optimizer={"lr": 0.5}
    ).config.optimizer
    assert (both.clip, both.lr) == (0.25, 0.5)
    below = {"objective": {"smoothing": 0.25}}
    kept = vitreous.train("digits", **TINY, config=below, objective={"kind": "classify"}).config
    assert kept.objective.smoothing == 0.25
    with pytest.raises(ConfigError, match=r"objective\.smoothing is for another kind of objective"):
        vitreous.train("digits", config=below, objective={"kind": "masked-patches"})
    with pytest.raises(ConfigError, match="objective is 'mae'; it must be an object"):
        vitreous.train("digits", config={"objective": {"smoothing": 0.25}}, settings={"objective": "mae"})
    assert (found.config.batch, found.config.optimizer.lr, found.config.optimizer.clip) == (16, 1e-3, 0.5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch": 8, "settings": {"batch": 16}}, "batch: given both by name and in settings"),
        (
            {"optimizer": {"lr": 1}, "settings": {"optimizer": {"lr": 1}}},
            "optimizer.lr: given both by name and in settings",
        ),
        ({"weights": "a", "settings": {"weights": "b"}}, "weights: given both by name and in settings"),
        ({"minutes": 1, "duration": "3st"}, "minutes and duration both say how long to train"),
        ({"minutes": 1, "settings": {"duration": "3st"}}, "minutes and duration both say how long to train"),
        ({"epochs": 3}, """unknown argument 'epochs'; here it is duration, such as "30ep\""""),
        ({"lr": 3}, """unknown argument 'lr'; here it is optimizer.lr: optimizer={"lr": ...}"""),
        ({"val_split": 0.2}, """here it is data.holdout: settings={"data": {"holdout": ...}}"""),
        ({"batch_size": 3}, "unknown argument 'batch_size'; here it is batch"),
        ({"optimizer.lr": 3}, """unknown argument 'optimizer.lr'; give optimizer={"lr": ...}"""),
        ({"settings": {"epochs": 3}}, """unknown setting 'epochs'; here it is duration, such as "30ep\""""),
        ({"settings": {"optimizer.lr": 3}}, """unknown setting 'optimizer.lr'; give optimizer={"lr": ...}"""),
        (
            {"settings": {"output_dir": "a"}},
            "unknown setting 'output_dir'; here it is the argument out, which is no setting",
        ),
        ({"settings": {"unlabeled": "a"}}, "unknown setting 'unlabeled'; here it is data.unlabelled"),
        ({"settings": {3: 4}}, "the name of a setting is 3; it must be text"),
        ({"optimizer": {"learning_rate": 3}}, "unknown setting 'optimizer.learning_rate'; here it is optimizer.lr"),
        ({"bach": 3}, "unknown argument 'bach'; did you mean 'batch'?"),
        ({"batch": "many"}, "batch is 'many'"),
        ({"duration": 30}, 'duration is 30; give it with a unit, such as duration="30ep"'),
        (
            {"optimizer": "adamw"},
            """optimizer is 'adamw'; give a mapping of its settings, such as optimizer={"name": 'adamw'}""",
        ),
        ({"optimizer": {"name": 5}}, "optimizer.name is 5; it must be text"),
        ({"settings": {"objective": "mae"}}, "objective is 'mae'; it must be an object of settings"),
    ],
)
@pytest.mark.parametrize("function", [vitreous.train, vitreous.sweep])
def test_settings_by_other_names_and_twice(function, given, words, here):
    with pytest.raises(ConfigError) as told:
        function("digits", **given)
    assert words in str(told.value)
    assert not list(here.iterdir())


def test_a_sweep_takes_settings_by_their_names(here):
    first = vitreous.sweep("digits", {"batch": [8, 16]}, model="mu/4", duration="2st", workers=0, out="one")
    again = vitreous.sweep(
        "digits", {"batch": [8, 16]}, model="mu/4", settings={"duration": "2st", "workers": 0}, out="one"
    )
    assert first.done == again.done == 2 and [one.variant for one in first.variants] == [{"batch": 8}, {"batch": 16}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 3}, """unknown change on resume 'epochs'; here it is duration, such as "30ep\""""),
        ({"num_workers": 0}, "unknown change on resume 'num_workers'; here it is workers"),
        ({"lr": 3}, "unknown change on resume 'lr'; Known: duration"),
        ({"duration": 5}, "duration is 5; it must be text"),
    ],
)
def test_resume_by_other_names(changes, words, run):
    with pytest.raises(ConfigError) as told:
        vitreous.resume(run, **changes)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("quantize", "it is vitreous.quantise"), ("val", "it is vitreous.evaluate"), ("predict", r"\(IMAGES\) predicts")],
)
def test_what_other_libraries_have(name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(vitreous, name)


def test_a_format_to_write_is_called_to(trained, here):
    for function in (vitreous.export, lambda run, **how: vitreous.quantise(run, "digits", **how)):
        with pytest.raises(ConfigError, match="unknown argument 'format'; a format to write is called to"):
            function(trained, format="onnx")


@pytest.mark.parametrize("write", [vitreous.convert, vitreous.export], ids=["convert", "export"])
def test_options_of_loading_are_refused_where_the_model_is_loaded(write, trained, here):
    """They had been ignored, misspelt ones too."""
    predictor = vitreous.load(trained)
    for loaded in (predictor, predictor.folder):
        with pytest.raises(
            ConfigError, match=r"image, bogus: the model is already loaded; give these to vitreous\.load"
        ):
            write(loaded, image=(16, 16), bogus=1, **({"path": "out"} if write is vitreous.convert else {"out": "out"}))
    assert not Path("out").exists()


def test_what_goes_with_something_else_is_refused_without_it(trained, here):
    with pytest.raises(ConfigError, match="add out=FOLDER, or leave them out"):
        vitreous.explain(trained, images=[], page=4)
    with pytest.raises(ConfigError, match="add compare=True, or leave them out"):
        vitreous.models("Ti/16", device="cpu")


def test_a_loaded_model_is_converted_as_its_folder_is(trained, here):
    written = [vitreous.convert(source, name) for name, source in (("a", trained), ("b", vitreous.load(trained)))]
    assert written[0].proof.difference == written[1].proof.difference == 0
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_that_no_data_is_named_is_said(here):
    listener = Listener()
    vitreous.train(model="mu/4", dry_run=True, reporter=listener)
    assert listener.told[0] == "no DATA is named: the images are the built-in digits"
    vitreous.train("digits", model="mu/4", dry_run=True, reporter=(named := Listener()))
    assert not any("no DATA" in one for one in named.told)
