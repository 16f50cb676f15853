"""A cut-down service for tests of the chassis: an order that is created, paid, shipped or
cancelled. No test stands here.
"""
