"""The owner's page is tried with the device and service of ``tests/device``."""

from tests.device.conftest import agreed, blank_service, home

__all__ = ["agreed", "blank_service", "home"]
