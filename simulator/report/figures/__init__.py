"""Plotly figures from results, one file a subject, in the look of theme.py; each has a text alternative, `alt`."""
