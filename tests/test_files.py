import os
from pathlib import Path

import pytest

from gangen.files import clear_temporary, replacing


@pytest.mark.parametrize("name", ["写" * 83 + ".png", "a" * 251 + ".png", "short.png"])
def test_names_as_long_as_a_file_system_allows_are_written_and_what_is_left_is_cleared(
    tmp_path: Path, name: str
) -> None:
    assert len(os.fsencode(name)) <= 255
    with replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"

    with replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"whole again")
        killed = temporary.with_name(temporary.name.replace(str(os.getpid()), "1"))
        killed.write_bytes(b"half")  # as by a process that could not even remove it
    clear_temporary(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
