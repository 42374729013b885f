"""A copy of a data directory has another place; a renamed directory keeps its place."""

from __future__ import annotations

import shutil

from orchy.store.redis.place import place_of


def test_a_copy_has_another_place(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    here = place_of(data)
    (data / "file").write_text("x")
    assert place_of(data) == here
    shutil.copytree(data, tmp_path / "copy")
    assert place_of(tmp_path / "copy") != here
    data.rename(tmp_path / "renamed")
    assert place_of(tmp_path / "renamed") == here
    (tmp_path / "renamed").rename(data)
    assert place_of(data) == here
