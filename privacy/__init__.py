"""Differential privacy: what is spent, by whom, and the proof. Knows nothing of Flower."""
