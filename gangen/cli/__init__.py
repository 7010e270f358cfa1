"""The command line: `gangen predict`, `generate`, `report`, `export`.

What judges is in `gangen.cli.judge`, what prepares data in `gangen.cli.data`.

What needs torch is imported inside the commands, so that `gangen --help` answers at once.
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from gangen import __version__
from gangen.cli.answers import write_answers
from gangen.cli.data import pack
from gangen.cli.judge import compare, evaluate, score
from gangen.cli.telling import telling
from gangen.errors import PictureError, StorageError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from tqdm import tqdm

    from gangen.pipeline import Pipeline

NOT_ALL = 1
REFUSED = 2
_DESCRIPTION = (
    "Paint with trained generators, judge pictures, look at trainings, and pack data. `gangen --version` tells "
    "the version."
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command that `arguments` (else those of the process) name, and exit with its code.

    Exit codes: 0 all done; 1 some pictures could not be read, the others are painted or judged; 2 refused,
    with the reason on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        sys.stdout.write(f"gangen {__version__}\n")
        return
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            {
                "predict": predict,
                "generate": generate,
                "evaluate": evaluate,
                "score": score,
                "compare": compare,
                "report": report,
                "export": export,
                "pack": pack,
            },
            prog="gangen",
            description=_DESCRIPTION,
            args=arguments or ["--help"],
        )
    except UserError as error:
        sys.stderr.write(f"gangen: {error}\n")
        code = REFUSED
    sys.exit(code)


def predict(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    pictures: Annotated[Positional[tuple[Path, ...]], arg(metavar="PICTURE_OR_FOLDER ...")],
    /,
    out: Path,
    draw: bool = False,
    batch_size: int = 8,
    tile: int = 768,
    overlap: int = 64,
    tta: bool = False,
    best: bool = False,
    device: str | None = None,
) -> int:
    """Paint pictures of any size with the averaged generator of a training, or say what they show.

    Each result is a PNG of its picture's size, or larger by the factor that a generator was trained to enlarge by;
    those of a folder keep their sub-folders. A network that labels pixels paints masks, with a palette, whose
    levels are the classes' numbers; one that classifies prints its answers and writes them to answers.csv.
    Pictures that cannot be read are named and left out, as are those too large for a network that cannot be tiled,
    and the exit code is then 1.

    Example: gangen predict runs/first sketches/ cat.jpg --out painted

    Args:
        run: a run folder, a pipeline folder, or OWNER/NAME on the Hugging Face hub.
        pictures: pictures, or folders that are searched with all folders inside them.
        out: the folder for the results. Nothing among the given pictures is ever overwritten, and where it lies in
            a given folder, what is in it is not painted again.
        draw: first make of each picture (a photograph) what the generator learned to paint from: a sketch, or a
            small or spoilt picture.
        batch_size: how many pictures of equal size to paint together.
        tile: larger pictures are painted in tiles of this many pixels a side (a multiple of 32); 0 never tiles.
        overlap: by how many pixels tiles overlap (a multiple of 32); more makes them agree better.
        tta: test-time augmentation: look at each picture mirrored too, mirror the answer back, and average both.
            Takes twice the time.
        best: take the weights that validation found best (RUN/checkpoints/best.safetensors), not the last ones.
        device: such as cpu, cuda, cuda:1 or mps. CUDA where there is one, else the CPU.
    """
    from tqdm import tqdm

    from gangen import images
    from gangen.data.readable import Careful
    from gangen.pipeline import Pipeline
    from gangen.views import Views

    named = name_results(pictures, out)
    pipeline = Pipeline.from_pretrained(run, device=device, best=best)
    views = Views() if tta else None
    if pipeline.answers:
        if draw:
            raise UserError(
                "--draw: this network says what pictures show, and is shown them as they are. Leave it out."
            )
        skipped = write_answers(pipeline, [picture for picture, _ in named], out, batch_size, views)
        sys.stdout.write(f"{len(named) - skipped} classified, {out / 'answers.csv'}, {skipped} skipped\n")
        return NOT_ALL if skipped else 0
    drawn = _drawn(pipeline) if draw else None
    done = 0

    def paint(given: list[Image.Image]) -> list[Image.Image]:
        return pipeline([*given], batch_size=batch_size, tile=tile or None, overlap=overlap, views=views)

    careful = Careful()
    with telling(), tqdm(total=len(named), unit="picture", disable=None) as bar:
        for first in range(0, len(named), max(1, batch_size)):
            group = named[first : first + max(1, batch_size)]
            readable = []
            for picture, result in group:
                try:
                    read = careful(images.read, picture)
                    readable.append((drawn(read) if drawn else read, picture, result))
                except StorageError:
                    raise
                except PictureError as error:
                    bar.write(f"skipped: {error}", file=sys.stderr)
            for picture_painted, result in _painted(readable, paint, bar):
                images.save(picture_painted, result)
                done += 1
            bar.update(len(group))
    skipped = len(named) - done
    if not done:
        raise PictureError(f"none of the {skipped} pictures could be painted; the lines above say why.")
    sys.stdout.write(f"{done} painted in {out}" + (f", {skipped} skipped\n" if skipped else "\n"))
    return NOT_ALL if skipped else 0


def generate(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    out: Path,
    count: int = 16,
    seed: int = 0,
    batch_size: int = 64,
    device: str | None = None,
) -> int:
    """Make pictures from noise with the averaged generator of a training that had no input pictures.

    Each is a PNG named by seed and number, such as 0-0003.png; the same names hold the same pictures.

    Example: gangen generate runs/vanilla_gan --count 64 --out made

    Args:
        run: a run folder, a pipeline folder, or OWNER/NAME on the Hugging Face hub.
        out: the folder for the pictures. A picture that is already there under the same name is replaced.
        count: how many pictures.
        seed: of the noise; another one makes other pictures.
        batch_size: how many pictures to make together.
        device: such as cpu, cuda or cuda:1. CUDA where there is one, else the CPU.
    """
    from tqdm import tqdm

    from gangen import images
    from gangen.pipeline import Pipeline

    made = Pipeline.from_pretrained(run, device=device).generated(count, seed=seed, batch_size=batch_size)
    for number, picture in enumerate(tqdm(made, total=count, unit="picture", disable=None)):
        images.save(picture, out / f"{seed}-{number:04d}.png")
    sys.stdout.write(f"{count} made in {out}\n")
    return 0


def report(run: Annotated[Positional[Path], arg(metavar="RUN")], /, open: bool = False) -> int:
    """Write RUN/report.html: curves, turns, samples and settings of a training in one file, even while it goes on.

    Example: gangen report runs/first --open

    Args:
        run: the run folder of a training.
        open: show it in the browser.
    """
    from gangen.report import write_report

    path = write_report(run)
    sys.stdout.write(f"{path}\n")
    if open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0


def export(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    out: Path,
    size: int = 256,
    fixed: bool = False,
    best: bool = False,
) -> int:
    """Write the generator of a training as an ONNX file, and check that it answers as the network does.

    Needs: pip install "gangen[export]"

    Example: gangen export runs/first --out generator.onnx

    Args:
        run: a run folder, a pipeline folder, or OWNER/NAME on the Hugging Face hub.
        out: the file to write.
        size: height and width in pixels of the example picture.
        fixed: take pictures of that size only, one at a time.
        best: take the weights that validation found best (RUN/checkpoints/best.safetensors), not the last ones.
    """
    from gangen.export import export_onnx
    from gangen.pipeline import Pipeline

    done = export_onnx(Pipeline.from_pretrained(run, device="cpu", best=best), out, size=size, dynamic=not fixed)
    sys.stdout.write(
        f"{done.path}: pictures of {done.sizes} size; differs from the network by at most {done.difference:.2g} "
        f"(in [-1, 1], over {len(done.checked)} shapes)\n"
    )
    return 0


def name_results(given: tuple[Path, ...], out: Path) -> list[tuple[Path, Path]]:
    """Pair each picture with the PNG that it becomes under `out`, no two alike and none of them a given picture.

    Raises:
        UserError: no picture is given, or a folder is missing or empty.
    """
    from gangen.data.folders import find_pictures

    found: list[tuple[Path, Path]] = []
    for place in given:
        if place.is_dir():
            earlier = out.resolve() if place.resolve() in out.resolve().parents else None
            found += [
                (picture, picture.relative_to(place))
                for picture in find_pictures(place)
                if earlier is None or not picture.resolve().is_relative_to(earlier)
            ]
        else:
            found.append((place, Path(place.name)))
    if not found:
        raise UserError("no picture is given. Name pictures or folders: gangen predict RUN PICTURE --out DIR")
    taken = {_spelled(picture) for picture, _ in found}
    named = []
    for picture, name in found:
        result, count = out / name.with_suffix(".png"), 2
        while _spelled(result) in taken:
            result, count = out / name.with_name(f"{name.stem}-{count}.png"), count + 1
        taken.add(_spelled(result))
        named.append((picture, result))
    return named


def _spelled(path: Path) -> str:
    """A path such that two which are one file on some systems, by case or accents, are the same on all."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def _painted(
    pictures: list[tuple[Image.Image, Path, Path]],
    paint: Callable[[list[Image.Image]], list[Image.Image]],
    bar: tqdm,
) -> list[tuple[Image.Image, Path]]:
    """The pictures painted, with their results' paths; those too large for a network without tiles are named."""
    try:
        painted = paint([picture for picture, _, _ in pictures])
        return [(each, result) for each, (_, _, result) in zip(painted, pictures, strict=True)]
    except PictureError as error:
        if len(pictures) > 1:
            return [done for one in pictures for done in _painted([one], paint, bar)]
        bar.write(f"skipped: {pictures[0][1]}: {error}", file=sys.stderr)
        return []


def _drawn(pipeline: Pipeline) -> Callable[[Image.Image], Image.Image]:
    """What makes a generator's inputs from pictures, the same each time."""
    from gangen.data import DRAWN, Whole
    from gangen.seeding import seeded

    wanted = pipeline.config.get("input", "sketch")
    if wanted not in DRAWN:
        raise UserError(
            f"--draw: this generator takes {wanted!r}, which cannot be made from pictures. Leave it out."
        )
    made, whole = DRAWN[wanted](pipeline.scale), Whole(pipeline.scale)

    def drawn(picture: Image.Image) -> Image.Image:
        with seeded(0):
            return made(whole(picture)[0])

    return drawn
