"""Results of placements: how they are bounded, laid out as one vector, and read from a noisy sum. Pure."""
