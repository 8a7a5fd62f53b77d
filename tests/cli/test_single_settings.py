"""One setting alone, of any nested part, is held against what the recipe chose, not against defaults that nobody asked for."""

import pytest

from vitreous.errors import ConfigError
from vitreous.settings import flatten, to_dict

ALONE = {
    "channels of a root": (("formula:fractals?classes=4", "--recipe=small", "--model.root-channels=24"), "groups", 8),
    "width": (("digits", "--recipe=small-vit", "--model.width", "20"), "heads", 4),
    "image": (("digits", "--recipe=small-vit", "--model.image", "8", "8"), "patch", [2, 2]),
    "axial attention": (("digits", "--recipe=small-vit", "--model.block.attention=axial"), "class_token", False),
}
"""Command lines, and a setting that the recipe chose, which its default doesn't go with."""


@pytest.fixture
def planned(vitreous, monkeypatch):
    """Return the settings that a command line comes to, by name."""

    def plan(*arguments):
        found = []

        def stop(config, *_):
            found.append(config)
            raise ConfigError("planned")

        monkeypatch.setattr("vitreous.api.training.dry_run_config", stop)
        vitreous("train", *arguments, "--dry-run").refused("planned")
        return flatten(to_dict(found[0]))

    return plan


@pytest.mark.parametrize("alone", ALONE)
def test_one_setting_goes_with_what_the_recipe_chose(planned, here, alone):
    arguments, name, chosen = ALONE[alone]
    assert planned(*arguments)[f"model.{name}"] == chosen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("formula:fractals?classes=4", "--recipe=small", "--model.root-channels=25"), "a multiple of 8, the groups"),
        (("digits", "--recipe=small-vit", "--model.heads=3"), "width 64 can't be divided among 3 heads"),
        (("digits", "--recipe=small-vit", "--model.pool=class"), "needs class_token"),
    ],
)
def test_what_does_not_go_with_the_recipe_is_one_line(vitreous, here, arguments, words):
    vitreous("train", *arguments, "--dry-run").refused(words)


@pytest.mark.parametrize("option", ["--regularisation.dropout=2", "--regularisation.patch-dropout=1", "--ema=1"])
def test_what_is_right_under_no_recipe_is_refused_before_data_is_looked_at(vitreous, here, option):
    vitreous("train", "no-such-place", option).refused("it must be at least 0 and below 1")


def test_a_request_is_checked_once(monkeypatch):
    from vitreous import train
    from vitreous.api import training

    asked, check = [], training.check_request
    monkeypatch.setattr(training, "check_request", lambda *given: asked.append(given) or check(*given))
    with pytest.raises(ConfigError, match="ema is 2"):
        train("digits", recipe="small", settings={"ema": 2.0})
    assert len(asked) == 1
