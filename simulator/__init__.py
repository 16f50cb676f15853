"""Simulates shoppers, card holders, pickers and carriers. Uses public RPCs and events only."""
