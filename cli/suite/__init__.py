"""The suite: parts that really run, one after the other, and what is told of them."""
