"""Shipping: goods in the carrier's hands."""
