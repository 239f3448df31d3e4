"""Raw behaviour: what an event is, what makes one acceptable, and how it gets into the vault. Device only."""
