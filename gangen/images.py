"""Pictures in files and on screens, and pictures as tensors in [-1, 1]: the only file that knows both."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from gangen import files
from gangen.errors import PictureError, StorageError

_JPEG = (".jfif", ".jpe", ".jpeg", ".jpg")
SUFFIXES = (*_JPEG, ".avif", ".bmp", ".gif", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as a picture in a folder, by the end of its name in lower case."""

OTHER_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".psd", ".raw", ".svg")
"""Pictures of kinds that are not read, for whoever looks through a folder to name them."""

MAX_RATIO = 256
"""Longest side of a picture over its shortest. Beyond it a picture is refused: one of a single pixel by a million,
enlarged until its short side can be trained on, takes all memory. May be set to another number."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the number that EXIF 2.3 (section 4.6.4) gives its orientation."""
_NOTES = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where pictures in memory keep it."""
_OF_STORAGE = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
}
"""Errors of the system that tell of storage, or of the machine, rather than of the file. Pillow's have none."""
_ENOUGH: ContextVar[int] = ContextVar("enough", default=0)
_PARTS = (8, 4, 2)
"""What the decoder can divide a JPEG's sides by."""


@contextmanager
def reduced(enough: int) -> Iterator[None]:
    """Within this block, decode JPEGs at a half, a quarter or an eighth of their sides.

    As far as the shorter side keeps `enough` pixels; 0 decodes them whole, as do all other formats. It is several
    times as fast, since the decoder leaves out the frequencies that would be lost anyway (Pillow's draft mode,
    libjpeg's scaled inverse DCT). What is then reduced further differs slightly from what the whole would give.
    """
    before = _ENOUGH.set(enough)
    try:
        yield
    finally:
        _ENOUGH.reset(before)


def is_picture(path: str | Path) -> bool:
    """Whether the name of `path` ends like a picture's (see `SUFFIXES`); the file itself is not opened."""
    return Path(path).suffix.lower() in SUFFIXES


def read(path: str | Path, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
    """Read a picture the way a person sees it.

    The orientation that a camera noted (EXIF) is applied, transparency is laid over white, palettes and CMYK
    become RGB, 16-bit grey is scaled to 8 bits and not clipped, and of several frames the first is taken.

    Returns:
        A Pillow picture of `mode`: three channels, or one of grey, 8 bits each.

    Raises:
        PictureError: there is no such file, or it is no picture, or cut short, empty or absurdly large;
            says which file, why, and what to do.
        StorageError: the disk, the network or the memory failed.
    """
    return _read(Path(path), str(path), mode)


def decode(content: bytes, name: str, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
    """Read a picture from the bytes of its file, as `read` does.

    Args:
        content: the bytes.
        name: what errors call it.
        mode: as for `read`.

    Raises:
        PictureError: it is no picture, or cut short, empty or absurdly large.
    """
    return _read(io.BytesIO(content), name, mode)


def _read(source: Path | io.BytesIO, name: str, mode: Literal["RGB", "L"]) -> Image.Image:
    with explained(source, name), Image.open(source) as opened:
        _check_ratio(opened.size)
        if isinstance(opened, JpegImageFile):
            _reduce(opened, _ENOUGH.get())
        picture = _flatten(_eight_bits(upright(opened)))
        return picture if picture.mode == mode else picture.convert(mode)


@contextmanager
def explained(source: Path | io.BytesIO, name: str) -> Iterator[None]:
    """Say of whatever goes wrong in this block which file could not be read, why, and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise PictureError(f"cannot read {name}: there is no such file. Check the path.") from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"cannot read {name}: {error}. Scale the picture down or cut it; or raise "
            "PIL.Image.MAX_IMAGE_PIXELS or gangen.images.MAX_RATIO where you trust its source."
        ) from error
    except MemoryError as error:
        raise StorageError(f"cannot read {name}: there is not enough memory. Free some, and try again.") from error
    # Pillow's decoders answer broken files with nearly every exception there is (OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, ...): whichever it was, this one picture cannot be read.
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_STORAGE:
            raise StorageError(f"cannot read {name}: {error}. Try again once its storage can be read.") from error
        raise PictureError(
            f"cannot read {name}: {_cause(source, error)}. Replace the file or take it out."
        ) from error


def upright(picture: Image.Image) -> Image.Image:
    """Turn or mirror a picture as the orientation says that a camera noted, in EXIF data that can be read."""
    picture.load()
    turn = _UPRIGHT.get(_orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    for note in _NOTES:  # or it would be turned again
        turned.info.pop(note, None)
    return turned


def _orientation(picture: Image.Image) -> int:
    """The orientation that a camera noted, 1 to 8; 1, which is upright, where there is none that can be read."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # scraped pictures have EXIF data that are broken in every way
        return 1


def _reduce(opened: JpegImageFile, enough: int) -> None:
    width, height = opened.size
    part = next((part for part in _PARTS if enough and min(width, height) // part >= enough), 1)
    if part > 1:
        opened.draft(opened.mode, (width // part, height // part))


def _check_ratio(size: tuple[int, int]) -> None:
    if max(size) > MAX_RATIO * max(1, min(size)):
        told = f"{size[0]}x{size[1]} pixels, more than {MAX_RATIO} times as long as wide"
        raise Image.DecompressionBombError(told)


def to_tensor(picture: Image.Image) -> Tensor:
    """Turn a picture of any mode into float32 (3, H, W) in [-1, 1]; grey becomes three equal channels.

    Raises:
        PictureError: grey values of more than 8 bits are on no known scale.
    """
    rgb = picture if picture.mode == "RGB" else _flatten(_eight_bits(picture)).convert("RGB")
    return F.pil_to_tensor(rgb).float().div_(127.5).sub_(1)


def to_picture(tensor: Tensor) -> Image.Image:
    """Turn a tensor (3, H, W) or (1, H, W) in [-1, 1] into a picture, "RGB" or "L".

    Values outside are clamped, NaN becomes black, and the rest is rounded to the nearest of 256 levels, so
    that `to_picture(to_tensor(picture))` is the same picture. Any float type and any device will do.

    Raises:
        ValueError: the tensor has another shape.
    """
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ValueError(
            f"a picture is (3, H, W) or (1, H, W), this tensor is {tuple(tensor.shape)}; index a batch first"
        )
    levels = tensor.detach().float().cpu().nan_to_num(nan=-1).clamp(-1, 1).add(1).mul(127.5).round()
    return F.to_pil_image(levels.to(torch.uint8))


def save(picture: Image.Image | Tensor, path: str | Path) -> None:
    """Write a picture, or a tensor as `to_picture` takes it, in place of `path`, atomically.

    The suffix decides the format. JPEG and WebP are written at quality 95.

    Raises:
        PictureError: the suffix is none that Pillow writes.
        RunError: the disk is full or not writable.
    """
    path = Path(path)
    picture = to_picture(picture) if isinstance(picture, Tensor) else picture
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise PictureError(f"cannot write {path}: {path.suffix or 'no suffix'} is no picture format. Use .png.")
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    with files.replacing(path) as temporary:
        picture.save(temporary, format=kind, **options)


def grid(
    rows: Sequence[Sequence[Image.Image | Tensor]],
    columns: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    *,
    cell: int | None = None,
    max_cell: int = 512,
) -> Image.Image:
    """Lay pictures out in a labelled sheet on white, one row a sample.

    Args:
        rows: pictures, or tensors as `to_picture` takes them; rows may differ in length and sizes may differ.
        columns: a label over each column, such as "input", "output", "target".
        row_labels: a label left of each row, such as the sample's name; shortened in its middle where long.
        cell: longer side of a cell in pixels. Chosen from the largest picture when None, so that small
            pictures are enlarged to about 192 px.
        max_cell: the longest that a cell chosen so may be.

    Enlarging is by whole factors without smoothing, which shows the pixels as they are; reducing is Lanczos.

    Raises:
        ValueError: there is no picture, or there are fewer labels than rows or columns.
    """
    pictures = [[to_picture(p) if isinstance(p, Tensor) else p.convert("RGB") for p in row] for row in rows]
    every = [picture for row in pictures for picture in row]
    if not every:
        raise ValueError("a grid needs at least one picture")
    across = max(len(row) for row in pictures)
    for labels, needed, what in ((columns, across, "columns"), (row_labels, len(pictures), "row_labels")):
        if labels is not None and len(labels) < needed:
            raise ValueError(f"{len(labels)} {what} for {needed}: {list(labels)}")

    longest = max(max(picture.size) for picture in every)
    cell = cell or min(max_cell, longest * max(1, round(192 / longest + 0.01)))
    pictures = [[_fit(picture, cell) for picture in row] for row in pictures]
    width = max(picture.width for row in pictures for picture in row)
    heights = [max((picture.height for picture in row), default=0) for row in pictures]

    gap = max(4, cell // 64)
    font = ImageFont.load_default(size=min(28, max(13, cell // 12)))
    line = sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else 14
    top = gap + (line + 2 * gap if columns else 0)
    named = [_shorten(label, font, max(width // 2, 120)) for label in row_labels or []]
    left = gap + (int(max(font.getlength(label) for label in named)) + 2 * gap if named else 0)

    sheet = Image.new("RGB", (left + across * (width + gap), top + sum(heights) + gap * len(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, label in enumerate((columns or [])[:across]):
        middle = left + index * (width + gap) + width // 2
        pen.text((middle, gap), _shorten(label, font, width), fill="#202124", font=font, anchor="ma")
    for index, row in enumerate(pictures):
        if named:
            pen.text(
                (left - 2 * gap, top + heights[index] // 2),
                named[index],
                fill="#5f6368",
                font=font,
                anchor="rm",
            )
        for place, picture in enumerate(row):
            x = left + place * (width + gap) + (width - picture.width) // 2
            sheet.paste(picture, (x, top + (heights[index] - picture.height) // 2))
        top += heights[index] + gap
    return sheet


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey (0..65535) and float grey (0..1) to "L"; leave other modes alone.

    Pillow's own `convert` clips these at 255 instead, which turns nearly every such picture white.
    """
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Through int64, since torch takes none whose bytes are in the other order ("I;16B", of some TIFF files)
        values, full = torch.from_numpy(np.asarray(picture).astype(np.int64))[None], 65535
    elif picture.mode == "F":
        values, full = F.pil_to_tensor(picture).double(), 1
    else:
        return picture
    if not bool(((values >= 0) & (values <= full)).all()):
        raise PictureError(
            f"grey values go beyond 0..{full}, so their scale is unknown; scale them to 0..255 first"
        )
    return F.to_pil_image((values * (255 / full)).round().to(torch.uint8))


def _flatten(picture: Image.Image) -> Image.Image:
    """Lay what is transparent over white, in whichever way the file says so; give "RGB" or "L"."""
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture if picture.mode == "L" else picture.convert("RGB")


def _cause(source: Path | io.BytesIO, error: Exception) -> str:
    """Put in words why a file could not be read."""
    if isinstance(source, Path) and source.is_dir():
        return "it is a folder"
    size = source.stat().st_size if isinstance(source, Path) and source.exists() else 1
    if not (size if isinstance(source, Path) else source.getbuffer().nbytes):
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture, or one of a kind that Pillow does not read"
    return str(error) or type(error).__name__


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """Bring a picture into a square of `side`: by a whole factor where it is enlarged."""
    longest = max(picture.size)
    if longest > side:
        size = (max(1, round(picture.width * side / longest)), max(1, round(picture.height * side / longest)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    factor = side // longest
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _shorten(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """Take out of the middle of a label what does not fit into `room` pixels."""
    if font.getlength(label) <= room:
        return label
    for keep in range(len(label) - 1, 1, -1):
        shorter = f"{label[: (keep + 1) // 2]}…{label[len(label) - keep // 2 :]}"
        if font.getlength(shorter) <= room:
            return shorter
    return label[:1]
