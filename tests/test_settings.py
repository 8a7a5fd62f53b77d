"""Settings survive JSON exactly, and a wrong one is one clear line."""

import json
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import ConfigError, UnknownName
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.settings import from_dict, override_settings, refuse_double_keys, to_dict
from vitreous.training.config import RunConfig


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    mean: tuple[float, ...] = (0.5,)


@dataclass(frozen=True)
class Outer:
    required: int
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    workers: int | Literal["auto"] = "auto"
    rate: float = 0.1
    flag: bool = False
    extra: dict[str, float] = field(default_factory=dict)


whole = st.integers(-(2**63) + 1, 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, st.tuples(whole, whole), st.lists(finite, max_size=4).map(tuple))
outer = st.builds(
    Outer,
    whole,
    inner,
    st.none() | inner,
    whole | st.just("auto"),
    finite,
    st.booleans(),
    st.dictionaries(st.text(), finite, max_size=3),
)


@given(outer)
def test_json_gives_back_the_same_settings(settings):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(settings)))) == settings


@dataclass(frozen=True)
class Square:
    side: float = 1.0
    KIND: ClassVar[str] = "square"


@dataclass(frozen=True)
class Disc:
    radius: float = 1.0
    inner: Inner = field(default_factory=Inner)
    KIND: ClassVar[str] = "disc"


@dataclass(frozen=True)
class Drawn:
    shape: Square | Disc = field(default_factory=Square)
    colour: str = "red"


@given(st.builds(Drawn, st.builds(Square, finite) | st.builds(Disc, finite, inner)))
def test_one_of_several_kinds_is_told_by_its_tag(drawn):
    values = json.loads(json.dumps(to_dict(drawn)))
    assert values["shape"]["kind"] == drawn.shape.KIND
    assert from_dict(Drawn, values) == drawn


def test_without_a_tag_it_is_the_first_kind():
    assert from_dict(Drawn, {"shape": {"side": 2}}) == Drawn(Square(2.0))
    with pytest.raises(UnknownName, match="unknown setting in shape 'raduis'; did you mean 'radius'"):
        from_dict(Drawn, {"shape": {"kind": "disc", "raduis": 2.0}})
    for tag in ("dics", 3):
        with pytest.raises(UnknownName, match=f"unknown kind of shape '{tag}'.*Known: square, disc"):
            from_dict(Drawn, {"shape": {"kind": tag}})


def test_settings_are_laid_over_others():
    disc = Drawn(Disc(3.0, Inner((5, 6))), "blue")
    assert override_settings(disc, {"shape": {"radius": 4}}) == Drawn(Disc(4.0, Inner((5, 6))), "blue")
    assert override_settings(disc, {"shape": {"kind": "disc", "inner": {"mean": [1.0]}}}).shape.inner == Inner(
        (5, 6), (1.0,)
    )
    assert override_settings(disc, {"shape": {"kind": "square", "side": 2}}) == Drawn(Square(2.0), "blue")
    assert override_settings(Outer(1, extra={"a": 1.0}), {"extra": {"b": 2}}).extra == {"a": 1.0, "b": 2.0}
    with pytest.raises(UnknownName, match="did you mean 'radius'"):
        override_settings(disc, {"shape": {"raduis": 4}})


def test_a_run_of_before_there_were_kinds_opens():
    values = to_dict(RunConfig())
    for name in ("model", "objective"):
        values[name] = {key: value for key, value in values[name].items() if key != "kind"}
    assert from_dict(RunConfig, values) == RunConfig()


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"randaugment_layers": 2, "randaugment_magnitude": 30}, (2, 10.0)),
        ({"randaugment_layers": 2, "randaugment_magnitude": 15}, (2, 5.0)),
        ({"randaugment_layers": 2}, (2, 10 / 3)),
        ({"randaugment": [2, 15]}, (2, 15.0)),
    ],
)
def test_randaugment_of_before_keeps_its_strength(then, now):
    """A magnitude of 30 was full strength, which is 10 in every paper."""
    assert from_dict(RunConfig, {"augment": then}).augment.randaugment == pytest.approx(now)
    assert override_settings(RunConfig(), {"augment": then}).augment.randaugment == pytest.approx(now)


def test_a_setting_of_before_is_read_as_strictly():
    with pytest.raises(ConfigError, match=r"augment.randaugment_magnitude is 'full'; it must be a whole number"):
        from_dict(RunConfig, {"augment": {"randaugment_magnitude": "full"}})
    with pytest.raises(ConfigError, match=r"augment.randaugment and augment.randaugment_layers are the same setting"):
        from_dict(RunConfig, {"augment": {"randaugment_layers": 2, "randaugment": [2, 10]}})


def test_a_whole_run_survives():
    config = RunConfig(
        preprocess=PreprocessConfig(size=(32, 48)), augment=AugmentConfig(crop_area=(0.1, 1.0)), freeze=3
    )
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_whole_numbers_serve_as_numbers():
    assert type(from_dict(Outer, {"required": 1, "rate": 2}).rate) is float


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"required": "3"}, "required is '3'; it must be a whole number"),
        ({"required": True}, "required is True; it must be a whole number"),
        ({"required": 1.0}, "required is 1.0; it must be a whole number"),
        ({"required": 1, "flag": 1}, "flag is 1; it must be true or false"),
        ({"required": 1, "workers": "all"}, "workers is 'all'; it must be a whole number or 'auto'"),
        ({"required": 1, "inner": [1]}, "inner must be an object of settings, not [1]"),
        ({"required": 1, "inner": {"size": [1]}}, "inner.size has 1 values; it must have 2"),
        ({"required": 1, "inner": {"mean": [1, "a"]}}, "inner.mean[1] is 'a'; it must be a number"),
        ({"required": 1, "maybe": {"size": 3}}, "maybe.size is 3; it must be a list of 2 whole numbers"),
        ({}, "required is missing; it must be a whole number"),
        ([1], "Outer must be an object of settings, not [1]"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(values, words):
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values)
    assert str(caught.value) == words


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown setting in inner 'szie'; did you mean 'size'"):
        from_dict(Outer, {"required": 1, "inner": {"szie": [1, 2]}})


def test_what_the_settings_refuse_themselves_passes_through():
    with pytest.raises(ConfigError, match="heads must divide"):
        from_dict(RunConfig, {"model": {"width": 10, "heads": 3}})


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (ViTConfig, {"width": 10**400}, "width is 1000"),
        (ViTConfig, {"depth": 10**9}, "depth is 1000000000; it must be a finite number of at most 10,000"),
        (ViTConfig, {"image": [10**9, 16]}, "image is 1000000000; it must be a finite number of at most 131,072"),
        (RegularisationConfig, {"dropout": float("inf")}, "dropout is inf; it must be a finite number"),
        (RegularisationConfig, {"drop_path": 10**400}, "drop_path is 1000"),
        (ResNetConfig, {"units": [10**6]}, "units is 1000000; it must be a finite number of at most 10,000"),
        (RunConfig, {"batch": 10**30}, "batch is 1000"),
        (RunConfig, {"optimizer": {"lr": float("nan")}}, "optimizer.lr is nan; it must be a finite number"),
    ],
)
def test_numbers_beyond_any_use_are_refused_at_once(kind, values, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(kind, values)


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(ConfigError, match="'depth' is given twice"):
        json.loads('{"model": {"depth": 2, "width": 64, "depth": 4}}', object_pairs_hook=refuse_double_keys)
    assert json.loads('[{"a": 1}, {"a": 2}]', object_pairs_hook=refuse_double_keys) == [{"a": 1}, {"a": 2}]
