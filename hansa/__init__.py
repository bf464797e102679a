"""Hansa: organisations train one model together and none shows its data."""

__version__ = "0.1.0"
