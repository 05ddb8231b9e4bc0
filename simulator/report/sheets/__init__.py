"""The spreadsheet of a report: the run's costs as formulas that a reader may change the inputs of."""
