"""Payments: what may be charged for an order, the operations at the card processor, and their
outcomes.
"""
