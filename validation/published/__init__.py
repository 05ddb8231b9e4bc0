"""Published rows as scenarios: what a row gives, what has to be assumed, and why a row cannot be stated as it was run."""
