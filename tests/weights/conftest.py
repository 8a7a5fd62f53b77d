"""A Hub on this machine for the tests that ask one."""

from tests.support.hub import served_hub  # noqa: F401 (a fixture)
