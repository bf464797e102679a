"""Models, their losses and figures: pure functions of weights and records. Knows nothing of Flower."""
