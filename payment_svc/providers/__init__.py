"""The card processors that payments can go through: the port, and an adapter for each."""
