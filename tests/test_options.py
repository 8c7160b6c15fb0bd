"""Options: ranges, and hyper-parameters from text."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from neuralfields import settings
from neuralfields.errors import UsageError
from neuralfields.options import fit as options
from neuralfields.options.fit import FitOptions, RenderOptions
from neuralfields.settings import did_you_mean, parse_settings


@dataclass(frozen=True)
class Config:
    """One field of every kind."""

    levels: int = 16
    scale: float = 1.5
    activation: Literal["relu", "sine"] = "relu"
    linear: bool = False
    sizes: tuple[int, ...] = (64, 64)
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    limit: int | None = None
    name: str = "a"

    def __post_init__(self) -> None:
        settings.require_range(self, levels=(1, 32), scale=(0, 1e6), limit=(1, 9))


def test_every_kind_of_value() -> None:
    words = ["levels=8", "scale=2e-3", "activation=sine", "linear=yes", "sizes=(1,2,3)", "centre=0,-1,2.5", "limit=7"]
    expected = Config(8, 0.002, "sine", True, (1, 2, 3), (0.0, -1.0, 2.5), 7)
    assert parse_settings(words, Config) == expected
    assert parse_settings(["limit=none", "name=x=y"], Config) == Config(name="x=y")
    assert parse_settings([], Config) == Config()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("levelz=8", "--set: unknown key 'levelz' (did you mean 'levels'?); keys: levels=16, scale=1.5"),
        ("levels", "--set 'levels': write key=value"),
        ("levels=8.5", "--set levels=8.5: must be a whole number"),
        ("levels=", "--set levels=: must be a whole number"),
        ("levels=99", "--set: levels 99: must be between 1 and 32"),
        ("scale=nan", "--set scale=nan: must be a finite number"),
        ("scale=wide", "--set scale=wide: must be a number"),
        ("scale=-1", "--set: scale -1.0: must be between 0 and 1e+06"),
        ("activation=sin", "--set activation=sin: must be one of relu, sine (did you mean 'sine'?)"),
        ("linear=perhaps", "--set linear=perhaps: must be true or false"),
        ("sizes=1,x", "--set sizes=1,x: must be a whole number"),
        ("centre=1,2", "--set centre=1,2: needs 3 values with commas between them, 2 were given"),
        ("limit=many", "--set limit=many: must be a whole number or none"),
    ],
)
def test_what_is_wrong_is_named(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings([word], Config)
    assert str(caught.value).startswith(message)


def test_a_key_twice() -> None:
    with pytest.raises(UsageError, match="levels is given twice"):
        parse_settings(["levels=1", "levels=2"], Config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps 0: must be between 1 and 100000000"),
        ({"steps": 10**12}, "--steps"),
        ({"minutes": -1.0}, "--minutes -1.0: must be between 0.001 and 100000"),
        ({"minutes": float("nan")}, "--minutes nan"),
        ({"minutes": float("inf")}, "--minutes inf"),
        ({"downscale": 0}, "--downscale 0"),
        ({"threads": 0}, "--threads 0"),
        ({"seed": -1}, "--seed -1"),
        ({"checkpoint_every": 0.0}, "--checkpoint-every 0.0"),
        ({"eval_every": -1.0}, "--eval-every -1.0"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite: give only one"),
    ],
)
def test_ranges_of_a_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        FitOptions(Path("scene"), **values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("values", [{"width": 0}, {"height": 10**9}, {"frames": 0}, {"fps": 0.0}, {"what": ()}])
def test_ranges_of_a_render(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RenderOptions(Path("a.nf"), Path("out"), **values)


def test_every_option_is_frozen_and_explained() -> None:
    source = Path(options.__file__).read_text().splitlines()
    kinds = [kind for name, kind in vars(options).items() if name.endswith("Options")]
    assert len(kinds) >= 9
    for kind in kinds:
        assert kind.__dataclass_params__.frozen and kind.__doc__
        begin = source.index(f"class {kind.__name__}:")
        for item in dataclasses.fields(kind):
            line = next(i for i in range(begin, len(source)) if source[i].startswith(f"    {item.name}:"))
            assert source[line + 1].startswith('    """'), f"{kind.__name__}.{item.name} has no help text"


def test_did_you_mean() -> None:
    assert did_you_mean("levelz", ["scale", "levels"]) == " (did you mean 'levels'?)"
    assert did_you_mean("zzz", ["scale", "levels"]) == ""
    assert did_you_mean("x" * 10**6, ["scale"]) == ""
