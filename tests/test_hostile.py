"""Files and names from strangers: without effect, told in one line; texts in tables are data."""

from __future__ import annotations

import argparse
import csv
import io
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sa_lab import cli
from sa_lab.config import ExperimentConfig
from sa_lab.model import build_model
from sa_lab.reporting import tables
from sa_lab.runs import Run
from sa_lab.weights import WeightsError, load_state

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about what strangers' files hold

NAMES = {
    "line break": "a\nb",
    "carriage return": "a\rb",
    "form feed": "a\x0cb",
    "terminal escape": "\x1b[2J\x1b]0;owned\x07",
    "pipe": "a|b",
    "markup": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "entity": "&lt;b&gt;",
    "formula": '=HYPERLINK("http://x")',
    "plus": "+1+1",
    "minus": "-cmd|' /C calc'!A0",
    "number first": "-2+3+cmd|' /C calc'!A0",
    "at": "@SUM(A1)",
    "link": "[a](http://x) ![i](http://x/i.png)",
    "backslash": "a\\|b",
    "tab": "\t=1",
    "latex": "\\input{/etc/passwd}",
    "percent": "50% & more $x$ #1 _y_ ^z ~",
    "comment": "a\n\\end{tabular}",
    "right to left": "a\u202eb",
    "line separator": "a\u2028b",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["console", "markdown", "latex", "csv", "html"])
def test_texts_in_tables_are_data(name: str, style: Any) -> None:
    text = NAMES[name]
    rows: list[Any] = [
        {"method": text, text + "!": 1.0, "mAP": None},
        {"method": "other", text + "!": 2.0, "mAP": None},
    ]
    shown = tables.render(rows, style)
    harmless = tables.render(
        [{"method": "x", "x!": 1.0, "mAP": None}, {"method": "other", "x!": 2.0, "mAP": None}], style
    )
    assert shown.count("\n") == harmless.count("\n"), "no line that is not ours"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028\u202e]", shown)
    if style in ("markdown", "html"):
        assert "<script" not in shown
        assert "<img" not in shown
    if style == "markdown":
        assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in shown.split("\n")), "as many cells as columns"
        assert "](" not in shown
    if style == "csv":
        for line in csv.reader(io.StringIO(shown)):
            assert not any(re.match(r"[=+@\t\r]|-(?![\d.]+$)", cell) for cell in line), line
    if style == "latex":
        assert "\\input" not in shown
        assert shown.count("\\end{tabular}") == 1
        for special in "%$#_":
            assert not re.search(rf"(?<!\\){re.escape(special)}", shown.replace("\\$", "")), special


def test_names_in_notebooks_and_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a|<img src=x>\x1b[2J"
    assert "<img" not in Run(folder)._repr_markdown_()
    assert "\x1b" not in Run(folder)._repr_markdown_()
    shown = ExperimentConfig().replace("model.weights", "x|<b>")._repr_markdown_()
    assert "x\\|&lt;b>" in shown
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", str(tmp_path / "\x1b[2Jnothing\x07.npz")])
    assert "\x1b" not in str(caught.value)
    assert "\x07" not in str(caught.value)


class Call:
    """What a pickle would do if it were let."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def hostile_states(mark: Path) -> dict[str, Any]:
    """What a file may hold; the commands must not be carried out."""
    tensor = torch.zeros(2)
    commands = {
        "system": Call(os.system, f"touch {mark}"),
        "open": Call(open, str(mark), "w"),
        "eval": Call(eval, f"open({str(mark)!r},'w')"),
        "exec": Call(exec, f"open({str(mark)!r},'w')"),
        "makedirs": Call(os.makedirs, str(mark)),
        "getattr": Call(getattr, "x", "join"),
        "import": Call(__import__, "antigravity"),
        "path": Call(Path, str(mark)),
        "partial": Call(pickle.loads, pickle.dumps(1)),
    }
    plain = {
        "none": None,
        "number": 1,
        "text": "net",
        "list": [1, 2],
        "list of tensors": [tensor],
        "tensor": tensor,
        "empty": {},
        "numbers for names": {1: tensor},
        "net is a number": {"net": 1},
        "net is a list": {"net": [tensor]},
        "net is empty": {"net": {}},
        "numbers in net": {"net": {1: tensor}},
        "text in net": {"net": {"a": "b"}},
        "nested": {"net": {"net": {"net": tensor}}},
        "ordered": OrderedDict(a=tensor),
        "namespace": argparse.Namespace(net=1),
        "array": np.zeros(3),
        "module": torch.nn.Linear(1, 1),
        "parameter": torch.nn.Parameter(tensor),
        "scalar weights": {"net": {"classifier.classifier_0.classifier.weight": torch.tensor(1.0)}},
        "no identities": {"net": {"classifier.classifier_0.classifier.weight": torch.zeros(0, 2048)}},
        "endless": {"net": {"classifier.classifier_0.classifier.weight": torch.zeros(1, 1).expand(10**11, 2048)}},
        "whole numbers": {"net": {"classifier.classifier_0.classifier.weight": torch.zeros(3, 2048, dtype=torch.int8)}},
        "not finite": {"net": {"classifier.classifier_0.classifier.weight": torch.full((3, 2048), torch.nan)}},
        "sparse": {"net": {"classifier.classifier_0.classifier.weight": torch.eye(3).to_sparse()}},
        "strange names": {"net": {"\x1b[2J": tensor, "..": tensor, "a/b": tensor}},
        "set": {"net": {1, 2}},
    }
    return plain | commands


def hostile_bytes(state: Any) -> dict[str, bytes]:
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(state, new)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return {"zip": new.getvalue(), "legacy": old.getvalue(), "pickle": _pickled(state)}


def _pickled(state: Any) -> bytes:
    try:
        return pickle.dumps(state)
    except Exception:
        return b"\x80\x04."


def test_hostile_checkpoints_have_no_effect(
    people_config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each command that reads such a file."""
    mark, tried = tmp_path / "effect", 0
    images = ["--dataset", "folder", "--root", str(people_config.data.root), "--height", "16", "--width", "8"]
    images += ["--device", "cpu"]
    for name, state in hostile_states(mark).items():
        for kind, content in hostile_bytes(state).items():
            file = tmp_path / "x.t"
            file.write_bytes(content)
            tried += 1
            with pytest.raises(SystemExit) as caught:
                cli.main(["evaluate", str(file), "--out", str(tmp_path / f"o{tried}"), *images])
            message = str(caught.value.code)
            assert "x.t" in message, (name, kind, message)
            assert "\n" not in message, (name, kind, message)
            assert len(message) < 1000, (name, kind)
            with pytest.raises(WeightsError) as told:
                build_model(3, "resnet18", 1, str(file), 0)
            assert "\n" not in str(told.value), (name, kind)
            assert not mark.exists(), (name, kind)
    with capsys.disabled():
        print(f"\n{tried} hostile checkpoints without effect, each told in one line")


@pytest.mark.parametrize("name", ["system", "eval", "getattr", "path"])
def test_nothing_is_executed(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "effect"
    for content in hostile_bytes(hostile_states(mark)[name]).values():
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(WeightsError, match=r"x\.pt is damaged, or no file of weights"):
            load_state(tmp_path / "x.pt")
        assert not mark.exists()
