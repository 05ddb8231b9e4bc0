"""Layers and training steps of the torch model, measured on a GPU: what predictions from a stack are held against.

hwprofiles/proof_cases says what is measured, so that predictions are made from the same list; layers and steps measure; profile
lists the kernels of some other sizes, to look at. Their commands: python -m hwprofiles.calibration.proof --help
"""
