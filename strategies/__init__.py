"""A round: select, train, unmask, apply."""
