"""Measurements: ratios, intervals and peaks, each with a table to read and JSON to keep. Nothing here is a test."""
