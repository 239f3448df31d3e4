"""Populations: virtual devices made from public or brought data, for simulation, demonstration and edge containers."""
