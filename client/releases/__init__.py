"""What a device releases through secure aggregation, task by task: from its examples to one private vector."""
