"""The page of an evaluation: what it shows, that it asks nobody for anything, and that no text becomes markup."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralfields import cli
from neuralfields.evaluation.evaluate import Report, View
from neuralfields.evaluation.report_page import fit_log, panel, report_page
from neuralfields.files import companion
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save

HOSTILE = '<script src="//x">&\x1b[2J</script>'


class Page(HTMLParser):
    """Tags, addresses of pictures in their order, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def view(name: str, psnr: float, ssim: float = 0.9) -> View:
    photo = np.zeros((12, 16, 3), np.uint8)
    return View(name, psnr, ssim, 0.01, rgb=photo + 40, photo=photo)


def page_of(model: Model, views: list[View], log: list[dict], **said: object) -> Page:
    report = Report(tuple(views), "test", None, (1.0, 1.0, 1.0), **said)
    return Page(report_page(model, "a.nf", report, [panel(each) for each in views], log))


def test_every_view_is_there_the_worst_first(small_model: Model) -> None:
    log = [{"seconds": 1.0, "psnr": 10.0}, {"seconds": 2.0, "psnr": 12.0}, {"seconds": 2.0, "held_out_psnr": 11.0}]
    shown = page_of(small_model, [view("a", 20.0), view("b", 10.0), view("c", 30.0)], log)
    assert re.findall(r"^(\d+\.\d+) dB$", shown.words, re.M) == ["20.00", "10.00", "20.00", "30.00"]  # the mean first
    assert len(shown.sources) == 1 + 1 + 3  # worst and best, the curve, a panel a view
    sizes = []
    for each in shown.sources:
        kind, _, data = each.partition(";base64,")
        assert kind == "data:image/jpeg"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert all(width <= 1600 for width, _ in sizes) and sizes[1] == (1200, 480)


def test_small_pictures_have_no_ssim(small_model: Model) -> None:
    shown = page_of(small_model, [view("a", 20.0, math.nan)], [])
    assert shown.words.split("\n").count("none") == 2 and "nan" not in shown.words.split("\n")


def test_no_text_of_others_becomes_markup(small_model: Model) -> None:
    model = replace(small_model, made={"scene": HOSTILE, "command": HOSTILE, HOSTILE: 1, "nested": {"a": HOSTILE}})
    shown = page_of(model, [view(HOSTILE, 20.0)], [], warnings=(HOSTILE,))
    assert "script" not in shown.tags and all(each.startswith("data:image/jpeg") for each in shown.sources)
    assert shown.words.count('<script src="//x">&') == 5 and "\x1b" not in shown.words


def test_a_log_of_something_else_draws_no_curve(small_model: Model, tmp_path: Path) -> None:
    model, log = tmp_path / "a.nf", tmp_path / "a.nf.log.jsonl"
    assert fit_log(model) == []
    for text in (b"\xff\xfe", b"[" * 100_000, b'{"seconds": 1}\nnot json\n'):
        log.write_bytes(text)
        assert fit_log(model) == []
    log.write_text('[1]\n{"seconds": "1", "psnr": []}\n{"seconds": 1, "psnr": NaN}\n{"seconds": true, "psnr": 1e300}\n')
    lines = fit_log(model)
    assert len(lines) == 3 and math.isnan(lines[1]["psnr"])
    assert len(page_of(small_model, [view("a", 20.0)], lines).sources) == 2  # the worst, and its panel


def test_the_verb_writes_it(small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "a.nf", tmp_path / "a.html"
    save(small_model, model)
    lines = [{"step": n, "seconds": n / 10, "psnr": 10.0 + n} for n in range(9)]
    companion(model, ".log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["eval", str(model), "--report", str(out), "--quiet"]
    assert cli.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    shown = Page(out.read_text())
    assert result["report"] == str(out) and len(shown.sources) == 2 + result["views"]
    assert f"{result['psnr']:.2f} dB" in shown.words and all(
        each["name"] in out.read_text() for each in result["images"]
    )
    assert cli.main(words) == 2 and "--overwrite" in capsys.readouterr().err
    assert cli.main([*words[:-2], str(tmp_path / "a.pdf")]) == 2 and ".html" in capsys.readouterr().err
