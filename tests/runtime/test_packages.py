"""Missing packages are named, with the extra that installs them."""

import sys

import numpy
import PIL
import pytest

from vitreous.errors import ConfigError
from vitreous.runtime.packages import find_version, require_packages


def test_each_missing_package_is_named_and_none_is_imported():
    with pytest.raises(ConfigError) as error:
        require_packages(("antigravity", "no_such_a", "no_such_b"), "flying", "wings")
    assert str(error.value) == "flying needs no_such_a, no_such_b, not installed: pip install 'vitreous[wings]'"
    require_packages(("antigravity",), "flying", "wings")
    assert "antigravity" not in sys.modules


def test_a_package_that_is_distributed_under_another_name_has_its_version(monkeypatch):
    """As onnxruntime within onnxruntime-gpu; here Pillow, which is imported as PIL."""
    assert find_version("numpy") == numpy.__version__
    assert find_version("PIL") == f"pillow {PIL.__version__}"
    monkeypatch.setattr("importlib.metadata.packages_distributions", dict)
    assert find_version("PIL") == ""
