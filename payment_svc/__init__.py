"""Payments: what may be charged for an order, what was asked of the card processor, and what
came of it.
"""
