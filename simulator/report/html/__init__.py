"""The HTML report: a frozen page made in Python, one module a section, which the templates lay out and nothing else."""
