"""Scenarios that come with the package: one folder each, for people to read."""
