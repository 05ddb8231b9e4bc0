"""One file a kind of layer, each registers itself: parts in part.PARTS, attentions in attention.ATTENTIONS. Importing this
package imports every file of the folder.
"""

from simulator.registry import register_members

register_members(__name__, __path__)
