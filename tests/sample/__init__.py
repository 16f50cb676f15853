"""A reduced service for tests of the chassis: an order that is created, paid, shipped or cancelled.
No tests here.
"""
