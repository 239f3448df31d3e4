"""A device with a service in this process, from ``tests/device``."""

from tests.device.conftest import agreed, home

__all__ = ["agreed", "home"]
