"""Fulfilment: the physical work on goods until the carrier has them."""
