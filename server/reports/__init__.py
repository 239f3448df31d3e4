"""Reports for privacy officers and authorities: record of processing, DPIA, PIPIA, consent; with real figures."""
