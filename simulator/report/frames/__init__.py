"""Tables of results as pandas frames: SI columns with the unit in the name, rows in a fixed order."""
