"""The world outside: shoppers, card holders, pickers, carriers. A client like any other: public
RPCs and events only.
"""
