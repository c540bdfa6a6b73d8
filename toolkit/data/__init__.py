"""Pictures and their labels, as people have them on disk or in memory.

`open_data` turns an ImageFolder, a flat folder of pictures, pictures with label maps, an .npz or .npy file into a
`Dataset`, which decodes a picture only when it is asked for, and prepares it by the pack's `Preprocessing`. Needs numpy
and Pillow; nothing that is opened here can run code.
"""

from .dataset import Dataset
from .opening import open_data

__all__ = ["Dataset", "open_data"]
