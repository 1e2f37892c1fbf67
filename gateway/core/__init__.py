"""What can be decided without waiting: no I/O, no vendor, no clock (`now` is passed in)."""
