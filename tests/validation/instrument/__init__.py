"""The instrument: a table of measured runs predicted row by row."""
