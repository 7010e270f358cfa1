"""Small pictures in folders, for the tests of the data sets."""

from pathlib import Path

import numpy as np
from PIL import Image


def landscape(number=0, size=(40, 30)):
    """A picture in which red tells the column and green the row, so that a crop tells where it is from."""
    across, down = np.meshgrid(np.arange(size[0]) * 4 % 256, np.arange(size[1]) * 4 % 256)
    return Image.fromarray(np.stack([across, down, np.full_like(across, number)], axis=2).astype(np.uint8))


def write(folder, names, make=landscape):
    """Write a picture under each name, and give their paths."""
    paths = [Path(folder, name) for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        make(number).save(path)
    return paths


def negative(picture):
    return Image.eval(picture, lambda value: 255 - value)
