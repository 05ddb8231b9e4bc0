"""Layers and training steps of the torch model: predicted from a stack, committed, then held against what a GPU measured.

    python -m validation.proof predict STACK -o PREFIX  writes PREFIX-layers.csv and PREFIX-steps.csv: predictions alone
    python -m validation.proof compare PREFIX MEASURED  prints both side by side

Cases are those that hwprofiles/calibration/proof measures; nothing is fitted to them.
"""
