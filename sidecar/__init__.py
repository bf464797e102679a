"""The sidecar reads round metrics over HTTP. It imports neither torch nor flwr."""
