"""A small gRPC service for the tests of the chassis: its contract, its servicer, a server and a
channel. No tests here.
"""
