"""The device: raw behaviour exists only here, and leaves only through client.egress."""
