"""Control: the HTTP API over the store, and the operator's key."""
