"""Words and pure calculations that device and server share: no file, socket, clock or database."""
