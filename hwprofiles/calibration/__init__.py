"""Makes the numbers of the catalogue: fits constants to measurements. Not needed to run a prediction."""
