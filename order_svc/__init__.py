"""The order service: orders, their history and their returns."""
