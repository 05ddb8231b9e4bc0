"""Members of the topology family: importing this package imports every file of the folder, which registers them."""

from simulator.registry import register_members

register_members(__name__, __path__)
