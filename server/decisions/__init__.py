"""Placements asked for, decided and confirmed."""
