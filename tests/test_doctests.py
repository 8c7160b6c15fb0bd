"""The examples in the docstrings of the public functions run, on the sample scene in small."""

import doctest
import inspect

import pytest

import neuralfields
from neuralfields.errors import UsageError
from neuralfields.options.keywords import from_keywords
from neuralfields.options.models import ConvertOptions, EditOptions

# The functions that stand in the package itself; `load`, `save` and `read_scene` stand elsewhere.
FUNCTIONS = [
    name
    for name in neuralfields.__all__
    if inspect.isfunction(vars(neuralfields).get(name)) and vars(neuralfields)[name].__module__ == "neuralfields"
]


def examples(text: str, name: str) -> doctest.DocTest:
    return doctest.DocTestParser().get_doctest(text, {}, name, None, 0)


def failures(test: doctest.DocTest) -> str:
    """What fails, in words; nothing where all of it runs."""
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return "".join(said)


def test_every_function_has_an_example_and_says_what_it_raises():
    assert sorted(FUNCTIONS) == ["convert", "edit", "evaluate", "find_poses", "fit", "render", "view"]
    for name in FUNCTIONS:
        text = inspect.getdoc(getattr(neuralfields, name)) or ""
        assert examples(text, name).examples and "Raises " in text, name


def test_the_judge_of_examples_sees_one_that_fails():
    assert "Expected:" in failures(examples(">>> 1 + 1\n3\n", "wrong"))
    assert "ZeroDivisionError" in failures(examples(">>> 1 / 0\n3\n", "raises"))
    assert not failures(examples(">>> 1 + 1\n2\n", "right"))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.usefixtures("small_steps", "one_thread")
def test_examples_run(name, small_capture, tiny_capture, small_file, tmp_path, monkeypatch):
    """Beside the sample scene, in small, and a model of it; what needs COLMAP is left out by its own mark."""
    if name == "view":
        pytest.importorskip("aiohttp", reason="pip install '.[view]'")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "sample").symlink_to(small_capture if name == "evaluate" else tiny_capture)
    small_file.rename(tmp_path / "sample.nf")
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(getattr(neuralfields, name)) or ""
    assert not failures(examples(text, name))


@pytest.mark.usefixtures("small_steps", "one_thread")
def test_a_loaded_model_is_converted_and_edited_as_its_file_is(small_model):
    same = neuralfields.convert(small_model, steps=1)
    assert same.metrics["psnr_against_teacher"] > 90  # of the same architecture and Config: a copy
    with pytest.raises(UsageError, match="nothing to edit"):
        neuralfields.edit(small_model)
    with pytest.raises(UsageError, match=r"convert: .*unexpected keyword argument 'stesp'"):
        neuralfields.convert(small_model, stesp=1)


def test_keywords_take_the_types_of_python():
    made = from_keywords(ConvertOptions, {"model": "a.nf", "set": {"levels": 3}, "recipe": "colour=1"}, "convert")
    assert str(made.model) == "a.nf" and made.set == ("levels=3",) and made.recipe == ("colour=1",)
    for given, boxes in (
        ((0, 0, 0, 1, 1, 1.5), ("0,0,0,1,1,1.5",)),
        ([(0, 0, 0, 1, 1, 1), "1,1,1,2,2,2"], ("0,0,0,1,1,1", "1,1,1,2,2,2")),
        ("0,0,0,1,1,1", ("0,0,0,1,1,1",)),
        ((), ()),
    ):
        assert from_keywords(EditOptions, {"model": "a.nf", "erase_box": given}, "edit").erase_box == boxes
    with pytest.raises(UsageError, match="edit: --bits 7: must be 8 or 32"):
        from_keywords(EditOptions, {"model": "a.nf", "bits": 7}, "edit")
