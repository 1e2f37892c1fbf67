"""One outside thing each, behind a Protocol of `gateway.ports`; strangers to one another."""
