"""The evidence bundle: everything that an officer must be able to show, in one archive that proves itself."""
