"""Secure aggregation: a server learns the sum of many devices' integer vectors, and nothing else about any of them.

A pure state machine: no file, socket, clock or global random state, and no Flower. ``device`` is one device's side,
``server`` the other; ``terms`` is what both agree on beforehand. docs/adr/0009-secure-aggregation.md says what is
proved, under which assumptions, and what is not.

Source: Bonawitz et al., CCS 2017 (double masking, Shamir recovery); Bell et al., CCS 2020 (k-regular graph).
"""
