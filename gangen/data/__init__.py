"""Data sets: where samples come from, which are for training, and how they are varied."""

from gangen.data.augment import Augment, Centre, Crop, Size, Whole, wide_size
from gangen.data.batch import Batch
from gangen.data.chunks import HubChunks, ShardChunks, open_hub
from gangen.data.classes import ClassFiles, ClassSet, open_classes
from gangen.data.codes import VOID, Codes
from gangen.data.drawn import DRAWN
from gangen.data.folders import find_pictures, split
from gangen.data.index import open_shards
from gangen.data.masks import LabelledFiles, Masks, open_masks
from gangen.data.packing import Packed, pack
from gangen.data.pairs import Pairs, open_pairs
from gangen.data.pattern import stained_glass
from gangen.data.photos import embedded_photographs, open_photographs
from gangen.data.pictures import FromNoise, from_noise, itself, open_pictures
from gangen.data.prepare import Draw, Prepare
from gangen.data.readable import Readable
from gangen.data.same import SAME, SamePairs, open_same
from gangen.data.scenes import SCENES, Scenes, open_scenes
from gangen.data.shards import Shards
from gangen.data.sketch import sketch
from gangen.data.sources import Arranged, Files, Kept, Source, match_folders, open_folder
from gangen.data.streams import Chunks, Raw, Stream

__all__ = [
    "DRAWN",
    "SAME",
    "SCENES",
    "VOID",
    "Arranged",
    "Augment",
    "Batch",
    "Centre",
    "Chunks",
    "ClassFiles",
    "ClassSet",
    "Codes",
    "Crop",
    "Draw",
    "Files",
    "FromNoise",
    "HubChunks",
    "Kept",
    "LabelledFiles",
    "Masks",
    "Packed",
    "Pairs",
    "Prepare",
    "Raw",
    "Readable",
    "SamePairs",
    "Scenes",
    "ShardChunks",
    "Shards",
    "Size",
    "Source",
    "Stream",
    "Whole",
    "embedded_photographs",
    "find_pictures",
    "from_noise",
    "itself",
    "match_folders",
    "open_classes",
    "open_folder",
    "open_hub",
    "open_masks",
    "open_pairs",
    "open_photographs",
    "open_pictures",
    "open_same",
    "open_scenes",
    "open_shards",
    "pack",
    "sketch",
    "split",
    "stained_glass",
    "wide_size",
]
