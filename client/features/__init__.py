"""Features: public, fixed transforms of a device's own history and of the situation at hand."""
