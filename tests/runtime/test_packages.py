"""Missing packages are named, with the extra that installs them."""

import sys

import pytest

from vitreous.errors import ConfigError
from vitreous.runtime.packages import require_packages


def test_each_missing_package_is_named_and_none_is_imported():
    with pytest.raises(ConfigError) as error:
        require_packages(("antigravity", "no_such_a", "no_such_b"), "flying", "wings")
    assert str(error.value) == "flying needs no_such_a, no_such_b, not installed: pip install 'vitreous[wings]'"
    require_packages(("antigravity",), "flying", "wings")
    assert "antigravity" not in sys.modules
