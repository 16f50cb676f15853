"""The carriers that shipments can go with: the port, and an adapter for each."""
