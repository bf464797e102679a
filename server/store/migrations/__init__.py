"""Schema versions; `schema.py` runs them."""
