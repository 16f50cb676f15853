"""The port to a carrier, and an adapter for each carrier."""
