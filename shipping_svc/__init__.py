"""The shipping service: shipments, their labels and the carrier's reports."""
