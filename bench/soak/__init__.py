"""`make soak`: one embedded gateway under mixed load and random faults, and its account."""
