"""`nf view --allow-outside`: a capture whose photos are links to elsewhere is shown where that is allowed."""

from pathlib import Path

import pytest

from neuralfields.errors import InputError
from neuralfields.options.models import ViewOptions
from neuralfields.scene import Scene
from neuralfields.verbs.view import _shown
from tests.support import make_captures


def test_photos_elsewhere(tmp_path: Path) -> None:
    make_captures.transforms(tmp_path / "store")
    (tmp_path / "cap").mkdir()
    (tmp_path / "store/transforms.json").rename(tmp_path / "cap/transforms.json")
    (tmp_path / "cap/images").symlink_to(tmp_path / "store/images")
    assert ViewOptions(models=(tmp_path / "cap",), allow_outside=True).allow_outside
    shown = _shown(tmp_path / "cap", allow_outside=True)
    assert isinstance(shown, Scene) and len(shown.frames) == 8
    assert _shown(tmp_path / "cap", allow_outside=False) == tmp_path / "cap"
    with pytest.raises(InputError):
        _shown(tmp_path / "store", allow_outside=True)
