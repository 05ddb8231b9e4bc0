"""Layers and training steps of the torch model: predicted from a stack, committed, then held against what a GPU measured.

    python -m validation.proof predict STACK -o DIR     writes layers.csv and steps.csv: predictions alone
    python -m validation.proof compare DIR MEASURED     prints both side by side

Cases are those that hwprofiles/calibration/proof measures; nothing is fitted to them.
"""
