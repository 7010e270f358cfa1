"""Data sets: where samples come from, which are for training, and how they are varied."""

from gangen.data.augment import Augment, Centre, Crop, Whole
from gangen.data.batch import Batch
from gangen.data.drawn import DRAWN
from gangen.data.folders import find_pictures, split
from gangen.data.pairs import Draw, Pairs, open_pairs
from gangen.data.pattern import stained_glass
from gangen.data.photos import embedded_photographs, open_photographs
from gangen.data.pictures import FromNoise, itself, open_pictures
from gangen.data.sketch import sketch
from gangen.data.sources import Files, Kept, Source, match_folders, open_folder

__all__ = [
    "DRAWN",
    "Augment",
    "Batch",
    "Centre",
    "Crop",
    "Draw",
    "Files",
    "FromNoise",
    "Kept",
    "Pairs",
    "Source",
    "Whole",
    "embedded_photographs",
    "find_pictures",
    "itself",
    "match_folders",
    "open_folder",
    "open_pairs",
    "open_photographs",
    "open_pictures",
    "sketch",
    "split",
    "stained_glass",
]
