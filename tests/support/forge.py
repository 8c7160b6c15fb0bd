"""Model files whose headers lie, with digests that are right."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuralfields.errors import InputError
from neuralfields.models import nf_file
from neuralfields.models import nf_header as header

Edit = Callable[[dict[str, Any], dict[str, Any]], object]


def forge(path: Path, edit: Edit, data: Callable[[bytes], bytes] = bytes) -> Path:
    """A file whose header says something else, with a digest that is right: only the meaning is wrong."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + length])
    text = json.loads(table.pop("__metadata__")["neuralfields"])
    edit(text, table)
    return seal(path, json.dumps(text, separators=(",", ":")), table, data(raw[8 + length :]))


def seal(path: Path, text: str, table: dict[str, Any], data: bytes) -> Path:
    """Writes header and data with the digest filled in."""
    text = '{"digest":"' + "0" * 64 + text[len('{"digest":"') + 64 :]
    head = json.dumps({"__metadata__": {"neuralfields": text}, **table}, separators=(",", ":"), ensure_ascii=False)
    head_bytes = head.encode()
    head_bytes += b" " * (-len(head_bytes) % 8)
    begin = len(header.PREFIX)
    digest = hashlib.sha256(head_bytes).hexdigest().encode()
    head_bytes = head_bytes[:begin] + digest + head_bytes[begin + 64 :]
    target = path.with_name("forged.nf")
    target.write_bytes(len(head_bytes).to_bytes(8, "little") + head_bytes + data)
    return target


def refused(path: Path, match: str | None = None) -> str:
    """The one line of the refusal; the same from `load` and, where the header shows it, from `describe`."""
    begin = time.process_time()
    with pytest.raises(InputError, match=match) as caught:
        nf_file.load(path)
    assert time.process_time() - begin < 2
    text = str(caught.value)
    assert "\n" not in text and text.startswith(str(path)) and len(text) < 400 + len(str(path))
    return text
