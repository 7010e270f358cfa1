"""A trained generator with its pre- and post-processing: picture in, picture of its size, or a larger one, out.

Or, for a generator that starts from noise: a number in, pictures out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from gangen import __version__, files, images, painting, tiles, weights
from gangen.answers import Answer, answer
from gangen.data.augment import Centre
from gangen.errors import RunError, UserError, WeightsError
from gangen.labels import Classes, draw_mask
from gangen.loading import FORMAT, NETWORKS, answer_count, build, find_pipeline, read_config
from gangen.nets import Classifier, Siamese, latents
from gangen.painting import Picture, as_tensor
from gangen.views import Views

_AT_ONCE = 16
"""Pictures that are in memory together, or as many as are painted together."""


class Pipeline:
    """Paints pictures with a trained generator.

        pipeline = Pipeline.from_pretrained("runs/first")
        pipeline("sketch.jpg").save("painting.png")

    A generator that starts from noise makes pictures of its own:

        Pipeline.from_pretrained("runs/vanilla_gan").generate(16, seed=0)

    Args:
        network: maps (N, 3, H, W) in [-1, 1] to the same shape, of any height and width; or noise (N, `latent`)
            to pictures, where it has a `latent`. Its `config` describes it (see `save`), `tiles_exactly` tells
            whether what it paints depends on its surroundings only, and `bounded`, if it has it, whether it bounds
            its memory by itself, so that no picture is tiled. If it has a `scale`, what it paints is so many times
            as high and as wide.
        config: what a person or a program may want to know of it, kept with it: "task", "input",
            "trained_size" (pixels), ... JSON values.
    """

    def __init__(self, network: nn.Module, *, config: Mapping[str, Any] | None = None) -> None:
        self.network = network
        self.config = dict(config or {})

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str | torch.device | None = None, best: bool = False
    ) -> Pipeline:
        """Load a pipeline from a run folder, from a folder that `save` wrote, or from the Hugging Face hub.

        Nothing that is read is executed: the weights are safetensors, and the network is one of gangen's own.

        Args:
            source: a folder, or the hub's "owner/name" of a repository with config.json and model.safetensors.
            device: where to paint; CUDA where there is one, else the CPU.
            best: of a run folder, take the weights that validation found best, rather than the last.

        Raises:
            RunError: the folder holds no pipeline, or one of another format or network, or no best weights.
            WeightsError: the weights cannot be read, are not those that were saved, or belong to another network.
            UserError: the hub's repository cannot be had, or the device is not there.
        """
        folder = find_pipeline(source)
        config = read_config(folder / "config.json")
        described = config.pop("network")
        network = build(described, folder)
        stored, expected = folder / "model.safetensors", config.get("sha256")
        if best:
            stored, expected = folder.parent / "checkpoints" / "best.safetensors", None
            if not stored.is_file():
                raise RunError(f"there is no {stored}: this training kept no best weights.")
        if expected is not None and weights.fingerprint(stored) != expected:
            raise WeightsError(
                f"{stored} is damaged, being saved, or not the file that config.json was written with: its "
                'SHA-256 is another. Fetch both again, or take "sha256" out of config.json if you changed it.'
            )
        weights.load_into(network, weights.read(stored), stored)
        kept = {key: value for key, value in config.items() if key not in ("format", "gangen", "sha256")}
        return cls(network, config=kept).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def save(self, folder: str | Path) -> Path:
        """Write `folder`/config.json and `folder`/model.safetensors; each takes the old one's place at once.

        Raises:
            RunError: the network is of a kind that cannot be loaded again, or the disk is full.
        """
        folder, kind = Path(folder), type(self.network).__name__
        if kind not in NETWORKS:
            raise RunError(
                f"a pipeline of {kind} could not be loaded again: expected one of {', '.join(NETWORKS)}. "
                "Keep its weights with safetensors.torch.save_file instead."
            )
        state = {key: value.detach().cpu().contiguous() for key, value in self.network.state_dict().items()}
        with files.replacing(folder / "model.safetensors") as temporary:
            save_file(state, temporary)
        network = {"kind": kind, **self.network.config}  # type: ignore[dict-item]  # a plain property
        checksum = weights.fingerprint(folder / "model.safetensors")
        description = {
            "format": FORMAT,
            "gangen": __version__,
            "sha256": checksum,
            **self.config,
            "network": network,
        }
        files.write_json(folder / "config.json", description)
        return folder

    def to(self, device: str | torch.device) -> Pipeline:
        """Move the network to a device, and return the pipeline.

        Raises:
            UserError: the device is not there.
        """
        try:
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot paint on device {str(device)!r}: {reason}. Use --device cpu.") from error
        return self

    @property
    def device(self) -> torch.device:
        """The device that the network is on."""
        return painting.device_of(self.network)

    @property
    def scale(self) -> int:
        """By how much what is painted is larger than the picture given: 1 but for super-resolution."""
        return painting.scale_of(self.network)

    @overload
    def __call__(
        self,
        pictures: Picture,
        *,
        batch_size: int = ...,
        tile: int | None = ...,
        overlap: int = ...,
        views: Views | None = ...,
    ) -> Image.Image: ...

    @overload
    def __call__(
        self,
        pictures: list[Picture],
        *,
        batch_size: int = ...,
        tile: int | None = ...,
        overlap: int = ...,
        views: Views | None = ...,
    ) -> list[Image.Image]: ...

    def __call__(
        self,
        pictures: Picture | list[Picture],
        *,
        batch_size: int = 8,
        tile: int | None = 768,
        overlap: int = 64,
        views: Views | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Paint one picture, or a list of them in the order given.

        Some are read at a time, and of these those of equal size painted together, `batch_size` at most and never
        more pixels at once than a tile has. A picture of more than tile x tile pixels is painted in tiles that are
        blended where they overlap, so memory stays bounded. A network may look further than the overlap (a deep
        ResNet's receptive field is hundreds of pixels), which then shows as faint differences, not as seams; a
        larger `overlap` lessens them.

        Args:
            pictures: Pillow pictures, paths, or tensors (3, H, W) in [-1, 1].
            batch_size: how many pictures of equal size to paint together.
            tile: side of a tile in pixels of the picture given, a multiple of 32; None never tiles.
            overlap: by how many pixels neighbouring tiles overlap, a multiple of 32 and less than `tile`.
            views: look at each picture in several ways, such as mirrored, and average what is painted, or what is
                thought likely at each pixel; see `Views`. None looks once.

        Returns:
            RGB pictures of the sizes given times `scale`, after the orientation that a camera noted was applied. A
            network that labels pixels gives masks: pictures with a palette ("P"), whose levels are the numbers of
            its `classes`.

        Raises:
            PictureError: a file cannot be read, a tensor is no picture, or a large picture was given to a network
                that cannot be tiled.
            UserError: an argument is out of range, or of another type.
        """
        _check_batch(batch_size)
        if self.latent is not None:
            raise UserError(
                "this generator makes pictures from noise and takes no picture to start from. Use "
                "`gangen generate RUN --count 16 --out DIR`, or pipeline.generate(16)."
            )
        if self.answers:
            raise UserError(
                "this network answers with a class and paints nothing. Use pipeline.classify or .compare."
            )
        tiles.check(tile, overlap)
        alone = isinstance(pictures, (Image.Image, str, Path, Tensor))
        given: list[Picture] = [pictures] if alone else list(pictures)  # type: ignore[list-item,arg-type]
        finished = self._finished()

        def paint(batch: Tensor) -> Tensor:
            if views is None:
                return painting.paint(self.network, batch, tile, overlap)
            labels = self.classes is not None
            return painting.paint_in_views(self.network, batch, views, tile, overlap, labels=labels)

        painted: list[Image.Image] = []
        some = max(batch_size, _AT_ONCE)
        with painting.at_rest(self.network):
            for first in range(0, len(given), some):
                tensors = [as_tensor(picture) for picture in given[first : first + some]]
                sizes, done = [(*tensor.shape[1:],) for tensor in tensors], dict[int, Image.Image]()
                for group in painting.batches(sizes, batch_size, tile, max(views.scales) if views else 1):
                    outputs = paint(torch.stack([tensors[index] for index in group]))
                    done |= dict(zip(group, map(finished, outputs), strict=True))
                painted += [done[index] for index in range(len(tensors))]
        return painted[0] if alone else painted

    @property
    def classes(self) -> Classes | None:
        """What a network that labels pixels or pictures tells apart; None for one that paints."""
        count = answer_count(getattr(self.network, "config", {}))
        if count is None:
            return None
        told = self.config.get("classes")
        if told is None:
            return Classes(tuple(f"class {number}" for number in range(count)))
        return Classes(tuple(told["names"]), tuple(tuple(colour) for colour in told["colours"]))

    @property
    def answers(self) -> bool:
        """Whether the network answers with a class, of a picture or of a pair, rather than with a picture."""
        return isinstance(self.network, Classifier | Siamese)

    def classify(
        self, pictures: Sequence[Picture], *, batch_size: int = 32, views: Views | None = None
    ) -> list[Answer]:
        """Say what class each picture is of.

        Each is brought to the size that the network was trained at, as in its validation: the largest square in
        its middle.

        Args:
            pictures: each as for calling the pipeline.
            batch_size: how many to look at together.
            views: look at each picture in several ways and average the probabilities; see `Views`.

        Raises:
            PictureError: a file cannot be read, or a tensor is no picture.
            UserError: the network does not classify, or the batch size is below 1.
        """
        if not isinstance(self.network, Classifier):
            raise UserError(f"a pipeline of {type(self.network).__name__} does not classify pictures.")
        if isinstance(pictures, Image.Image | str | Path | Tensor):
            raise UserError("classify takes a list of pictures: pipeline.classify([picture]).")
        return self._answers(map(self._square, pictures), batch_size, views)

    def compare(
        self, pairs: Sequence[tuple[Picture, Picture]], *, batch_size: int = 32, views: Views | None = None
    ) -> list[Answer]:
        """Say of each pair of pictures whether both show the same; see `classify`. Views are of both alike.

        Raises:
            PictureError: a file cannot be read, or a tensor is no picture.
            UserError: the network does not compare, or the batch size is below 1.
        """
        if not isinstance(self.network, Siamese):
            raise UserError(f"a pipeline of {type(self.network).__name__} does not compare pictures.")
        joined = (torch.cat([self._square(one), self._square(other)]) for one, other in pairs)
        return self._answers(joined, batch_size, views)

    def _square(self, picture: Picture) -> Tensor:
        """A picture as the network was shown those that it was validated on."""
        size = self.config.get("trained_size")
        read = images.to_picture(as_tensor(picture))
        return images.to_tensor(Centre(size)(read)[0] if size else read)

    def _answers(self, inputs: Iterable[Tensor], batch_size: int, views: Views | None) -> list[Answer]:
        _check_batch(batch_size)
        names = self.classes.names if self.classes else ()
        with painting.at_rest(self.network):
            return answer(self.network, inputs, names, batch_size, views, self.device)

    @property
    def latent(self) -> int | None:
        """How many numbers of noise the generator makes a picture from; None where it starts from pictures."""
        return getattr(self.network, "latent", None)

    def generate(self, count: int = 1, *, seed: int = 0, batch_size: int = 64) -> list[Image.Image]:
        """Make pictures from noise. Picture k of a seed is the same however many are made, and in what batches.

        See `generated` for more pictures than memory holds.

        Args:
            count: how many.
            seed: of the noise, 0 or more.
            batch_size: how many to make together.

        Raises:
            UserError: an argument is out of range, or the generator starts from pictures.
        """
        return list(self.generated(count, seed=seed, batch_size=batch_size))

    def generated(self, count: int = 1, *, seed: int = 0, batch_size: int = 64) -> Iterator[Image.Image]:
        """The pictures that `generate` makes, one after the other: a batch is made when it is asked for."""
        _check_batch(batch_size)
        if self.latent is None:
            raise UserError(
                "this generator starts from pictures and makes none from noise. Use "
                "`gangen predict RUN PICTURE --out DIR`, or pipeline(picture)."
            )
        for name, value, least in (("count", count, 1), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"{name} {value} is impossible. Give {least} or more.")
        noise = latents(count, self.latent, seed)
        return (picture for part in noise.split(batch_size) for picture in self._made(part))

    def _made(self, noise: Tensor) -> list[Image.Image]:
        with painting.at_rest(self.network):
            return [images.to_picture(picture) for picture in self.network(noise.to(self.device))]

    def _finished(self) -> Callable[[Tensor], Image.Image]:
        """What makes an output (C, H, W), a picture, logits or probabilities, a picture."""
        classes = self.classes
        return images.to_picture if classes is None else lambda likely: draw_mask(likely.argmax(dim=0), classes)


def _check_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size {batch_size} is impossible. Give 1 or more.")
