"""What a model consumes and is: feature specification, examples, networks and their named arrays."""
