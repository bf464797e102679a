"""One organisation's side: the agent beside the data and the node beside the network."""
