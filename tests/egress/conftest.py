"""A device with a service in this process, from ``tests/device``."""

from tests.device.conftest import agreed, blank_service, home

__all__ = ["agreed", "blank_service", "home"]
