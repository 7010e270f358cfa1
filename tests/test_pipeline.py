import json
import pickle

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import gangen.pipeline
from gangen import images, tiles
from gangen.errors import PictureError, RunError, UserError, WeightsError
from gangen.nets import Body, ClassHead, Classifier, ImageHead, NoiseGenerator, Residual, UNet, Upscaler
from gangen.pipeline import Pipeline


class Local(nn.Module):
    """Looks 6 pixels around, halves and doubles resolution like a UNet, and notes what it was given."""

    tiles_exactly = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Conv2d(3, 3, 5, padding=2)
        self.norm = nn.BatchNorm2d(3)
        self.down = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        self.learnt = torch.is_grad_enabled()
        up = nn.functional.interpolate(self.down(self.norm(self.wide(x))), scale_factor=2)
        return torch.tanh(x + up[..., : x.shape[-2], : x.shape[-1]])


class Negative(nn.Module):
    tiles_exactly = True

    def forward(self, x):
        return -x


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet(Body("resnet18", weights="none"), ImageHead(3), width=4).eval()


@pytest.fixture
def saved(unet, tmp_path):
    return Pipeline(unet, config={"task": "sketch-to-image", "trained_size": 64}).save(
        tmp_path / "run" / "pipeline"
    )


def noise(width, height, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return images.to_picture(torch.rand(3, height, width, generator=generator) * 2 - 1)


def pixels(picture):
    return images.to_tensor(picture)


def test_what_was_saved_paints_the_same_after_loading(unet, saved):
    picture = noise(50, 37)
    painted = Pipeline(unet)(picture)
    assert painted.size == (50, 37)
    for place in (saved, saved.parent, str(saved.parent)):  # the folder itself, its run, and as text
        loaded = Pipeline.from_pretrained(place, device="cpu")
        assert loaded(picture).tobytes() == painted.tobytes()
    assert loaded.config == {"task": "sketch-to-image", "trained_size": 64}
    assert loaded.network.config == unet.config
    described = json.loads((saved / "config.json").read_text())
    assert (described["format"], described["network"]["kind"]) == (1, "UNet")
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_a_loaded_pipeline_saves_again_to_the_same_files(saved, tmp_path):
    Pipeline.from_pretrained(saved).save(tmp_path / "copy")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (saved / name).read_bytes()


def test_takes_pictures_paths_and_tensors_alike(tmp_path):
    picture = noise(20, 10)
    picture.save(tmp_path / "picture.png")
    pipeline = Pipeline(Negative())
    painted = pipeline([picture, tmp_path / "picture.png", str(tmp_path / "picture.png"), pixels(picture)])
    assert [each.tobytes() for each in painted] == [painted[0].tobytes()] * 4
    assert torch.allclose(pixels(painted[0]), -pixels(picture), atol=1e-6)
    assert pipeline(picture).tobytes() == painted[0].tobytes()
    assert pipeline([]) == []


def test_the_camera_s_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    noise(30, 20).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert Pipeline(Negative())([opened, tmp_path / "turned.png"])[0].size == (20, 30)
        assert Pipeline(Negative())(opened).tobytes() == Pipeline(Negative())(tmp_path / "turned.png").tobytes()


def test_equal_sizes_are_painted_together_and_the_order_stays():
    network = Local()
    pictures = [noise(16, 8, 0), noise(8, 16, 1), noise(16, 8, 2), noise(16, 8, 3)]
    painted = Pipeline(network)(pictures, batch_size=2)
    assert sorted(network.seen) == [(1, 3, 8, 16), (1, 3, 16, 8), (2, 3, 8, 16)]
    for picture, result in zip(pictures, painted, strict=True):
        alone = Pipeline(Local())(picture)
        assert result.size == picture.size
        assert (pixels(alone) - pixels(result)).abs().max() < 0.01


def test_a_batch_never_has_more_pixels_than_a_tile():
    network = Local()
    Pipeline(network)([noise(64, 64, k) for k in range(5)], batch_size=5, tile=96)
    assert network.seen == [(2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64)]


@pytest.mark.parametrize("size", [(200, 150), (97, 300), (129, 128), (160, 96)])
def test_tiles_make_the_whole_picture_in_bounded_memory(size):
    picture = noise(*size)
    whole, tiled = Local().eval(), Local().eval()
    expected = Pipeline(whole)(picture, tile=None)
    found = Pipeline(tiled)(picture, tile=96, overlap=32)
    assert found.size == size
    assert whole.seen == [(1, 3, size[1], size[0])]
    assert len(tiled.seen) > 1
    assert all(height <= 96 and width <= 96 for _, _, height, width in tiled.seen)
    # A tile's outermost 6 pixels lack surroundings, but count for nearly nothing where another tile knows better.
    difference = (pixels(found) - pixels(expected)).abs()
    assert difference.max() < 0.05
    assert difference.mean() < 0.001


def test_tiles_blend_without_a_seam():
    calls = []

    def unlike(part):  # every tile answers otherwise: the worst case
        calls.append(part.shape)
        return torch.full_like(part, float(len(calls) % 2))

    painted = tiles.paint_tiled(unlike, torch.zeros(1, 3, 64, 300), 128, 64)
    steps = painted[0, 0, 32].diff().abs()
    assert painted.min() >= 0
    assert painted.max() <= 1
    assert painted[0, 0, 32].max() - painted[0, 0, 32].min() > 0.9
    assert steps.max() < 0.03  # over 64 pixels at least


def test_tiles_cover_all_and_begin_at_the_stride():
    for length in range(1, 400, 7):
        begins = tiles.starts(length, 96, 32)
        covered = {place for begin in begins for place in range(begin, min(begin + 96, length))}
        assert covered == set(range(length))
        assert all(begin % 32 == 0 for begin in begins)


def test_a_unet_in_tiles_is_close_to_the_whole(unet):
    assert unet.tiles_exactly
    picture = noise(160, 160)
    whole = Pipeline(unet)(picture, tile=None)
    tiled = Pipeline(unet)(picture, tile=128, overlap=96)
    assert (pixels(whole) - pixels(tiled)).abs().mean() < 0.02


def test_a_network_that_sees_the_whole_picture_is_not_tiled():
    network = UNet(Body("resnet18", weights="none"), ImageHead(3), width=4, attention=True)
    with pytest.raises(UserError, match=r"100x90.*--tile 0"):
        Pipeline(network)(noise(100, 90), tile=64, overlap=32)
    assert Pipeline(network)(noise(100, 90), tile=None).size == (100, 90)
    assert Pipeline(network)(noise(60, 60), tile=64, overlap=32).size == (60, 60)


def test_painting_leaves_no_trace_on_the_network():
    network = Local().train()
    network.norm.eval()  # a part that was frozen stays so
    before = {key: value.clone() for key, value in network.state_dict().items()}
    Pipeline(network)(noise(9, 9))
    assert [network.training, network.wide.training, network.norm.training] == [True, True, False]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    network(torch.rand(2, 3, 8, 8)).sum().backward()  # it still learns
    assert network.wide.weight.grad is not None


def test_painting_is_in_eval_mode_and_keeps_nothing_for_learning():
    network = Local().train()
    alone = Pipeline(network)(noise(16, 16, 1))
    assert not network.learnt
    beside = Pipeline(network)([noise(16, 16, 1), noise(16, 16, 2)])[0]
    assert (pixels(alone) - pixels(beside)).abs().max() < 0.01  # in train mode BatchNorm would mix the two


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"tile": 100}, r"tile 100.*multiple of 32.*like 96"),
        ({"tile": 32}, "from 64 up"),
        ({"overlap": 50}, "overlap 50"),
        ({"tile": 64, "overlap": 64}, "below the tile"),
    ],
)
def test_impossible_arguments_are_refused(arguments, told):
    with pytest.raises(UserError, match=told):
        Pipeline(Negative())(noise(8, 8), **arguments)


@pytest.mark.parametrize("tensor", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), torch.zeros(3, 0, 4),
                                    torch.zeros(3, 4, 4, dtype=torch.uint8)])  # fmt: skip
def test_a_tensor_that_is_no_picture_is_refused(tensor):
    with pytest.raises(PictureError, match=r"\(3, H, W\)"):
        Pipeline(Negative())(tensor)


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(PictureError, match=r"bad\.png"):
        Pipeline(Negative())(tmp_path / "bad.png")


def test_a_network_of_one_s_own_is_not_saved_half(tmp_path):
    with pytest.raises(RunError, match=r"Local.*UNet"):
        Pipeline(Local()).save(tmp_path)
    assert not list(tmp_path.iterdir())


def edit(saved, **changes):
    config = json.loads((saved / "config.json").read_text()) | changes
    (saved / "config.json").write_text(json.dumps(config))


def test_an_unknown_format_network_or_setting_is_refused_with_the_remedy(saved, unet):
    edit(saved, format=2)
    with pytest.raises(RunError, match=r"format 2.*pip install -U"):
        Pipeline.from_pretrained(saved)
    edit(saved, format=1, network={"kind": "os.system", "command": "false"})
    with pytest.raises(RunError, match=r"kind 'os\.system'.*UNet"):
        Pipeline.from_pretrained(saved)
    edit(saved, network={"kind": "UNet", **unet.config, "legs": 4})
    with pytest.raises(RunError, match=r"config\.json does not describe a UNet"):
        Pipeline.from_pretrained(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot read .*config\.json"):
        Pipeline.from_pretrained(saved)


def test_weights_of_another_network_or_a_broken_file_are_refused(saved):
    path = saved / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.startswith("head"))
    save_file({key: value for key, value in weights.items() if key != name}, path)
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged, being saved, or not the file"):
        Pipeline.from_pretrained(saved)
    edit(saved, sha256=None)
    with pytest.raises(WeightsError, match=rf"model\.safetensors.*missing: {name}"):
        Pipeline.from_pretrained(saved)
    path.write_bytes(pickle.dumps({"never": "executed"}))
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        Pipeline.from_pretrained(saved)


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where", "a/b/c"])
def test_a_missing_folder_is_named(source):
    with pytest.raises(RunError, match=f"no folder {source}"):
        Pipeline.from_pretrained(source)


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no pipeline"):
        Pipeline.from_pretrained(tmp_path)


def test_from_the_hub_only_the_two_files_are_fetched(saved, monkeypatch):
    asked = {}

    def fetch(name, *, allow_patterns):
        asked[name] = allow_patterns
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert Pipeline.from_pretrained("someone/painter").config["trained_size"] == 64
    assert asked == {"someone/painter": ["config.json", "model.safetensors"]}


def test_offline_the_hub_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"someone/painter.*connection"):
        Pipeline.from_pretrained("someone/painter")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="cannot paint on device 'abacus'"):
        Pipeline(Local()).to("abacus")


def enlarging(scale, blocks=1):
    torch.manual_seed(0)
    network = Upscaler(scale, width=4, blocks=blocks)
    nn.init.normal_(network.shuffle[0].weight, std=0.05)
    return network


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_network_that_enlarges_paints_larger_pictures_whole_and_in_tiles(scale):
    network = enlarging(scale)
    pictures = [noise(90, 70, 0), noise(31, 17, 1), noise(90, 70, 2)]
    whole = Pipeline(network)(pictures, tile=None)
    sizes = [(scale * picture.width, scale * picture.height) for picture in pictures]
    assert [picture.size for picture in whole] == sizes
    tiled = Pipeline(network)(pictures, tile=64, overlap=32)
    for one, other in zip(whole, tiled, strict=True):
        difference = (pixels(one) - pixels(other)).abs() * 127.5
        # Within 5 pixels of a tile's edge it may differ, and there a tile counts for nearly nothing.
        assert difference.max() < 8
        assert (difference > 1.1).float().mean() < 0.01


def test_upscalers_are_loaded_again(tmp_path):
    residual = Residual(UNet(Body("resnet18", weights="none"), ImageHead(3, output_range=None), width=4), 2)
    for network in (enlarging(3), residual):
        place = Pipeline(network, config={"task": "super-resolution"}).save(tmp_path / type(network).__name__)
        loaded = Pipeline.from_pretrained(place, device="cpu")
        assert loaded.scale == network.scale > 1
        assert loaded(noise(20, 9)).tobytes() == Pipeline(network)(noise(20, 9)).tobytes()
    assert Pipeline(Negative()).scale == 1


def test_only_known_networks_can_be_named():
    assert set(gangen.loading.NETWORKS) == {
        "Classifier",
        "Colorizer",
        "NoiseGenerator",
        "Residual",
        "Siamese",
        "StyleNet",
        "UNet",
        "Upscaler",
    }


@pytest.fixture(scope="module")
def from_noise(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("noise")
    return Pipeline(NoiseGenerator(8, latent=5, width=4)).save(folder)


def test_pictures_from_noise_depend_on_seed_and_number_alone(from_noise):
    pipeline = Pipeline.from_pretrained(from_noise, device="cpu")
    many = pipeline.generate(7, seed=3)
    assert [picture.size for picture in many] == [(8, 8)] * 7
    assert len({picture.tobytes() for picture in many}) == 7
    for few in (pipeline.generate(4, seed=3), pipeline.generate(4, seed=3, batch_size=3)):
        for one, other in zip(few, many, strict=False):
            assert (pixels(one) - pixels(other)).abs().max() <= 2 / 255
    assert pipeline.generate(1, seed=4)[0].tobytes() != many[0].tobytes()


def test_pictures_from_noise_are_made_as_they_are_asked_for(from_noise):
    pipeline, made = Pipeline.from_pretrained(from_noise, device="cpu"), []
    watch = pipeline.network.register_forward_hook(lambda _, given, __: made.append(len(given[0])))
    pictures = pipeline.generated(5, seed=3, batch_size=2)
    first = next(pictures)
    assert made == [2]
    assert not torch.is_inference_mode_enabled()
    together = [first, *pictures]
    watch.remove()
    again = pipeline.generate(5, seed=3, batch_size=2)
    assert [picture.tobytes() for picture in together] == [picture.tobytes() for picture in again]


def test_generators_from_noise_and_from_pictures_are_not_mixed_up(from_noise, unet):
    pipeline = Pipeline.from_pretrained(from_noise, device="cpu")
    with pytest.raises(UserError, match=r"makes pictures from noise.*gangen generate"):
        pipeline(noise(8, 8))
    with pytest.raises(UserError, match=r"starts from pictures.*gangen predict"):
        Pipeline(unet).generate(1)
    for name, value in (("count", 0), ("seed", -1), ("batch_size", 0)):
        with pytest.raises(UserError, match=f"{name} {value}"):
            pipeline.generate(**{name: value})


def test_pictures_are_read_some_at_a_time(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        noise(20 + 4 * (number % 2), 16, number).save(path)
    network, order, read = Local(), [], images.read
    monkeypatch.setattr(images, "read", lambda path, *rest: order.append("read") or read(path, *rest))
    network.register_forward_hook(lambda _, given, __: order.append(len(given[0])))
    painted = Pipeline(network)(paths, batch_size=8)
    assert order == ["read"] * 16 + [8, 8] + ["read"] * 4 + [2, 2]
    assert [picture.width for picture in painted] == [20, 24] * 10
    alone = Pipeline(Local())(paths[17])
    assert alone.tobytes() == painted[17].tobytes()


def test_pictures_are_classified_some_at_a_time(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        noise(20, 16, number).save(path)
    network, order, read = Classifier(Body("resnet18"), ClassHead(2)), [], images.read
    monkeypatch.setattr(images, "read", lambda path, *rest: order.append("read") or read(path, *rest))
    network.register_forward_hook(lambda _, given, __: order.append(len(given[0])))
    assert len(Pipeline(network, config={"trained_size": 16}).classify(paths, batch_size=4)) == 6
    assert order == ["read"] * 4 + [4] + ["read"] * 2 + [2]


def test_arrays_are_refused_with_what_makes_pictures_of_them(unet):
    array = torch.zeros(8, 8, 3).numpy()
    for given in (array, [array]):
        with pytest.raises(UserError, match=r"ndarray is no picture: .*Image\.fromarray"):
            Pipeline(unet)(given)
