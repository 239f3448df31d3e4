"""Results of placements: follow-up links, noisy releases by day, reports, billing and pacing."""
