"""Secure aggregation: integers that can be summed and nothing else. Knows nothing of Flower."""
