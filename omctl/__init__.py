"""The operators' command line: a client like any other, by public RPCs alone."""
