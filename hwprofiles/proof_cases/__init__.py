"""Layers and training steps of the torch model that are measured on a GPU and predicted from a stack: one list for both."""
