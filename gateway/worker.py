"""The worker: takes pending exchanges and has them remembered."""
