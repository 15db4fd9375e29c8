"""Pictures in, token shards out and in, and the order in which they are read.

`PictureFolder` and `read_picture` turn files into images, `fitted` gives an image another size; `write_shard`
and `Shards` keep token ids on disk; `Shuffled` is the endless order of a training run. The embedded data are
in `vqtok.data.emoji` and `vqtok.data.scenes`, pictures with captions in `vqtok.data.captions`.
"""

from vqtok.data.folders import PictureFolder
from vqtok.data.order import Shuffled
from vqtok.data.pictures import fitted, read_picture, write_picture
from vqtok.data.shards import Shards, write_shard

__all__ = ["PictureFolder", "Shards", "Shuffled", "fitted", "read_picture", "write_picture", "write_shard"]
