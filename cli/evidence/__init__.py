"""``reticent bundle`` and ``reticent verify``: evidence that is made on one machine and checked on another."""
