import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from gangen import weights
from gangen.errors import WeightsError


def test_half_precision_is_read_as_float32_and_counts_stay_whole(tmp_path):
    stored = {
        "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([1.5], dtype=torch.bfloat16),
        "count": torch.tensor(7),
    }
    save_file(stored, tmp_path / "w.safetensors")
    torch.save(stored, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        state = weights.read(tmp_path / name)
        assert state["half"].dtype == state["brain"].dtype == torch.float32
        assert state["half"].tolist() == [0.5, -2.0]
        assert state["count"].dtype == torch.int64


def test_a_nested_state_dict_is_taken_out(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert list(weights.read(tmp_path / "w.pt")) == ["weight"]


class _Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path):
    mark = tmp_path / "executed"
    torch.save({"weight": _Bomb(mark)}, tmp_path / "new.pth")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Bomb(mark), protocol=2))
    for name in ("new.pth", "bare.pt"):
        with pytest.raises(WeightsError, match=f"{name}.*refused"):
            weights.read(tmp_path / name)
    assert not mark.exists()
    pickle.loads((tmp_path / "bare.pt").read_bytes())
    assert mark.exists(), "the bomb itself must work, or this test shows nothing"


@pytest.mark.parametrize("suffix", weights.SUFFIXES)
def test_damaged_files_and_pictures_are_told_by_name(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    state = {"weight": torch.ones(100)}
    save_file(state, whole) if suffix == ".safetensors" else torch.save(state, whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[:200])
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    picture = tmp_path / f"picture{suffix}"
    Image.new("RGB", (4, 4)).save(picture, format="PNG")
    for path in (cut, empty, picture):
        with pytest.raises(WeightsError, match=rf"{path.name}: cannot be read as plain weights .*Fetch it again"):
            weights.read(path)


def test_absent_files_folders_and_other_kinds_are_refused(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    for name in ("absent.pth", "folder.pth"):
        with pytest.raises(WeightsError, match=f"{name}: there is no such file"):
            weights.read(tmp_path / name)
    with pytest.raises(WeightsError, match=r"weights\.h5: expected .*\.safetensors"):
        weights.read(tmp_path / "weights.h5")


def test_a_file_of_other_things_than_tensors_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1), "epoch": 3}, tmp_path / "run.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    for name in ("run.pth", "list.pth"):
        with pytest.raises(WeightsError, match=f"{name}: expected a state dict"):
            weights.read(tmp_path / name)


def test_fingerprint_is_the_files_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4's own example
    assert weights.fingerprint(tmp_path / "abc") == expected
    with pytest.raises(WeightsError, match="absent"):
        weights.fingerprint(tmp_path / "absent")


def _module():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_load_into_copies_every_value():
    source, module = _module(), _module()
    nn.init.normal_(source[1].running_mean)
    weights.load_into(module, source.state_dict(), "file.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


def test_load_into_names_what_does_not_fit_and_leaves_the_module_alone():
    module = _module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {name: torch.full_like(value, 9) for name, value in before.items()}
    del state["0.bias"]
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    state["2.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        weights.load_into(module, state, "other.pth")
    told = str(error.value)
    assert "other.pth" in told
    assert "missing: 0.bias" in told
    assert "unexpected: 2.weight" in told
    assert "0.weight is 4x3x3x3 here and 8x3x3x3 there" in told
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_load_into_shortens_long_lists():
    with pytest.raises(WeightsError, match=r"missing: 0\.weight, 0\.bias, 1\.weight and 3 more"):
        weights.load_into(_module(), {}, "empty.pth")


def test_load_into_forgives_only_what_it_is_told_to():
    module = _module()
    state = module.state_dict() | {"fc.weight": torch.zeros(1)}
    del state["1.num_batches_tracked"]
    with pytest.raises(WeightsError, match=r"unexpected: fc\.weight"):
        weights.load_into(module, state, "w.pth")
    weights.load_into(module, state, "w.pth", may_have=["fc."])
    del state["0.bias"]
    weights.load_into(module, state, "w.pth", may_lack=["0."], may_have=["fc."])


@pytest.fixture
def cache(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def test_download_fetches_checks_and_then_stays_away_from_the_network(tmp_path, cache):
    digest = "ba7816bf"
    published = tmp_path / f"net-{digest}.pth"
    published.write_bytes(b"abc")
    path = weights.download(published.as_uri())
    assert path == cache / published.name
    assert path.read_bytes() == b"abc"
    published.unlink()
    assert weights.download(published.as_uri()) == path


def test_download_keeps_nothing_whose_hash_is_wrong(tmp_path, cache):
    published = tmp_path / "net-00000000.pth"
    published.write_bytes(b"abc")
    with pytest.raises(WeightsError, match=r"net-00000000.*hash"):
        weights.download(published.as_uri())
    assert not list(cache.iterdir())


def test_download_without_a_network_says_how_to_go_on(cache, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*local file of weights"):
        weights.download("http://weights.example/net-00000000.pth")
