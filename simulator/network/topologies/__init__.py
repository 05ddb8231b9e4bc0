"""Members of the topology family; importing this package registers them."""

from simulator.network.topologies import fat_tree, multi_plane_fat_tree, rail_fat_tree

__all__ = ["fat_tree", "multi_plane_fat_tree", "rail_fat_tree"]
