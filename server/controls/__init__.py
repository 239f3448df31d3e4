"""Kill switches: what a privacy officer has stopped, for a purpose, a campaign or a jurisdiction."""
