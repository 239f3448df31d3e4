"""What can be shown: creative templates, and the signed catalogue that is the same for everybody."""
