"""The operators' command line. It calls public RPCs only."""
