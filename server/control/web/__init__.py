"""The page: what an operator sees of a consortium, live, and the few things to do about it."""
