"""Settings outside their range are refused before anything is opened or written."""

from dataclasses import replace

import pytest

from vitreous.api.training import override_config
from vitreous.errors import ConfigError
from vitreous.model.config import StemConfig, ViTConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.objectives.config import ClassifyConfig, MaskedAutoencoderConfig, MaskedPatchesConfig
from vitreous.settings import flatten, to_dict
from vitreous.training.config import RunConfig
from vitreous.training.run import train
from vitreous.training.settings_check import BY_CLOCK, DURATIONS, ORDERED, RANGES, check_ranges
from vitreous.training.trial_run import dry_run

KINDS = [
    RunConfig(model=model, objective=objective)
    for model in (ViTConfig(), ResNetConfig())
    for objective in (ClassifyConfig(), MaskedPatchesConfig(), MaskedAutoencoderConfig())
]
"""A configuration of every kind; each setting is looked for in the first that has it."""
STEMMED = [RunConfig(model=ViTConfig(stem=StemConfig("resnet", (1,))))]
"""What a stem's epsilons are for."""
SETTINGS = {name: value for config in reversed(KINDS) for name, value in flatten(to_dict(config)).items()}
FLOATS = [
    name for name, value in SETTINGS.items() if type((value or [0])[0] if isinstance(value, list) else value) is float
]


def changed(name, value):
    nested = value
    for part in reversed(name.split(".")):
        nested = {part: nested}
    made = STEMMED if name.startswith("model.stem.epsilons.") else KINDS
    return override_config(next(config for config in made if name in flatten(to_dict(config))), nested)


def like(old, number):
    """Return a number, or as many as there were, of the type that was there."""
    if isinstance(old, list):
        return [like(old[0], number)] * len(old)
    return float(number) if type(old) is float else int(number)


@pytest.mark.parametrize("config", KINDS)
def test_the_defaults_are_within(config):
    check_ranges(config)


def test_ranges_belong_to_settings():
    assert set(RANGES) | set(DURATIONS) | set(BY_CLOCK) | set(ORDERED) <= set(SETTINGS)


@pytest.mark.parametrize("name", RANGES)
def test_each_end_of_a_range(name):
    interval, old = RANGES[name], SETTINGS[name]
    old = 0 if isinstance(old, str) else old
    for mark, end, outside in (
        (interval[0], interval[1:-1].split(", ")[0], -1),
        (interval[-1], interval.split(", ")[1][:-1], 1),
    ):
        if end == "inf":
            continue
        assert mark in "[]()"
        if mark in "[]":
            check_ranges(changed(name, like(old, end)))
            wrong = float(end) + outside if float(end) < 1e6 else 2.0**70
        else:
            wrong = end
        said = rf"^({name}|{name.removeprefix('model.')}) is .*; it must be (at|above|below|a whole number)"
        with pytest.raises(ConfigError, match=said) as caught:
            check_ranges(changed(name, like(old, wrong)))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_are_finite(name, number):
    with pytest.raises(ConfigError, match=rf"^({name}|{name.removeprefix('model.')})(\[0\])? is {number}; it must be"):
        check_ranges(changed(name, like(SETTINGS[name], number)))


@pytest.mark.parametrize("name", ORDERED)
def test_the_smallest_comes_first(name):
    with pytest.raises(ConfigError, match=rf"{name} runs from 1 down to 0.5; give the smallest first"):
        check_ranges(changed(name, [1.0, 0.5]))


@pytest.mark.parametrize("name", DURATIONS)
def test_durations_can_be_read(name):
    several = isinstance(SETTINGS[name], list)
    soon, clock = (["10%", text] if several else text for text in ("soon", "5min"))
    with pytest.raises(ConfigError, match="can't read the duration 'soon'"):
        check_ranges(changed(name, soon))
    if name in BY_CLOCK:
        check_ranges(changed(name, clock))
    else:
        with pytest.raises(ConfigError, match=rf"{name} is 5min; give epochs"):
            check_ranges(changed(name, clock))


@pytest.mark.parametrize("work", [train, dry_run])
def test_nothing_is_opened_first(work, tmp_path):
    config = replace(RunConfig(), workers=-1, data=replace(RunConfig().data, path=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="workers is -1"):
        work(config, tmp_path / "run") if work is train else work(config)
    assert list(tmp_path.iterdir()) == []
