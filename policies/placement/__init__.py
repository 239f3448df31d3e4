"""The placement policy A = g(Y): pure code, the same on the device and in the service."""
