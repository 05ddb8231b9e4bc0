"""`moesim validate --cases`: a table of measured runs predicted row by row, and how right the predictions are together."""
