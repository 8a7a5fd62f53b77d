"""Keys as they are given, and names of images, which may be anything."""

import time

import pytest

from vitreous.api.serving import read_keys
from vitreous.errors import ConfigError
from vitreous.serving.bodies import shorten_name

KEY = "a-key-of-more-than-16-characters"


def test_keys_of_the_environment(monkeypatch):
    monkeypatch.setenv("VITREOUS_API_KEYS", f"{KEY},{KEY[::-1]}")
    assert read_keys(None) == (KEY, KEY[::-1])
    monkeypatch.setenv("VITREOUS_API_KEYS", "")  # a secret that is missing
    with pytest.raises(ConfigError, match="VITREOUS_API_KEYS is empty; unset it"):
        read_keys(None)


def test_a_key_may_have_a_number_sign(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# those of May\n{KEY}#42xyz  # of the board\n\n  # none\n{KEY[::-1]}\t#\n")
    path.chmod(0o600)
    assert read_keys(path) == (f"{KEY}#42xyz", KEY[::-1])


def test_only_the_end_of_a_long_name_is_looked_at():
    """A body may hold tens of millions of slashes, and they would be taken apart while nobody is answered."""
    began = time.monotonic()
    assert shorten_name("/" * 30_000_000 + "a.png", 1) == "a.png"
    assert shorten_name("b" * 10_000, 1) == "b" * 100
    assert time.monotonic() - began < 1
