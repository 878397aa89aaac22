"""The guide to one's own pictures, word by word: its commands, and what is refused, on files made by a script."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sa_lab import cli, experiment
from sa_lab.config import ExperimentConfig

GUIDE = Path(__file__).parents[1] / "notebooks" / "guides" / "own_pictures.md"
QUICK = {
    "data": {"height": 32, "width": 16, "validation_fraction": 0.0},
    "model": {"backbone": "resnet18", "num_parts": 2, "weights": "random"}, "loss": {"warmup_steps": 1},
    "train": {"ids_per_batch": 2, "images_per_id": 1, "num_epochs": 1, "steps_per_epoch": 2, "device": "cpu",
              "num_probes": 0},
}  # fmt: skip
"""Dials in place of the preset's."""


def picture(path: Path, seed: int, kind: str = "L") -> None:
    """A picture of noise; ``kind``: a mode of Pillow, or 12 for grey of twelve bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 4096 if kind == "12" else 256, (32, 16, 3))
    if kind == "12":
        Image.fromarray(pixels[..., 0].astype(np.uint16)).save(path)
    else:
        Image.fromarray(pixels.astype(np.uint8)).convert(kind).save(path)


def people(root: Path, count: int, suffix: str = "png", kind: str = "L") -> Path:
    for person in range(count):
        for k in range(2):
            picture(root / "visible" / f"p{person:02}" / f"{k}.png", person, "RGB")
            picture(root / "infrared" / f"p{person:02}" / f"{k}.{suffix}", person, kind)
    return root


def table(root: Path, separator: str = "/") -> Path:
    people(root / "people", 6)
    rows = ["path,person,camera,modality"]
    for path in sorted((root / "people").rglob("*.png")):
        spectrum, person, name = path.relative_to(root / "people").parts
        place = separator.join(("people", spectrum, person, name))
        rows.append(f"{place},{person},{1 + (spectrum == 'infrared')},{spectrum}")
    (root / "list.csv").write_text("\n".join(rows))
    return root / "list.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of drawn people."""
    home = tmp_path_factory.mktemp("home")
    config = ExperimentConfig().replace({**QUICK, "data.train_ids": 4, "data.test_ids": 3, "data.images_per_camera": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_LAB_HOME", str(home))
        return experiment.run(config, home / "runs" / "thermal-complete-seed0-x", progress=False).folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Path:
    """The folder in which a reader of the guide sits."""
    shutil.copytree(trained, tmp_path / "data" / "runs" / trained.name)
    (tmp_path / "quick.json").write_text(json.dumps(QUICK))
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> None:
    """A command of the guide, with the network and the steps of a test."""
    words = command.replace("$RUN", "data/runs/thermal-complete-seed0-x").replace(
        "sa-lab train ", "sa-lab train --config quick.json "
    )
    cli.main(shlex.split(words.replace(" --train.ids-per-batch 8", ""))[1:])


def test_the_commands_of_the_guide(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(place)
    picture(place / "query.png", 7)
    for person in range(6):
        picture(place / "gallery" / "in" / f"{person}.png", person, "RGB")
    text = GUIDE.read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands[1:]:
        run(command)
    said = capsys.readouterr().out
    assert "ranking.html" in said
    assert (place / "ranking.png").is_file()
    assert {path.name for path in (place / "exported").iterdir()} == {
        "descriptor-infrared.onnx", "descriptor-visible.onnx",
    }  # fmt: skip
    images = torch.rand(3, 3, 32, 16).numpy()
    names = {"folder": place / "data" / "runs" / "thermal-complete-seed0-x", "images": images}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block, names)
    assert names["descriptors"].shape[0] == 3
    assert len(names["found"].names(0)) == 5


def loose(root: Path) -> str:
    picture(people(root / "people", 6) / "visible" / "stray.png", 1)
    return "sa-lab prepare folder --root people"


def one_spectrum(root: Path) -> str:
    shutil.rmtree(people(root / "people", 6) / "visible" / "p03")
    return "sa-lab prepare folder --root people"


def dead_link(root: Path) -> str:
    (people(root / "people", 6) / "visible" / "p01" / "gone.png").symlink_to(root / "nowhere.png")
    return "sa-lab prepare folder --root people"


def two_spellings(root: Path) -> str:
    """The same name, composed under one spectrum and decomposed under the other."""
    people(root / "people", 6)
    for spectrum, form in (("visible", "NFC"), ("infrared", "NFD")):
        (root / "people" / spectrum / "p00").rename(root / "people" / spectrum / unicodedata.normalize(form, "zoë"))
    return "sa-lab prepare folder --root people"


def of_kind(count: int, suffix: str, kind: str) -> Callable[[Path], str]:
    def made(root: Path) -> str:
        people(root / "people", count, suffix, kind)
        return "sa-lab train tiny --data.dataset folder --data.root people --run runs/x"

    return made


def deep_colour(root: Path) -> str:

    from PIL import PngImagePlugin  # noqa: F401  (a colour PNG of sixteen bits has to be made by hand)

    people(root / "people", 6)
    rows = b"".join(b"\0" + bytes(16 * 6) for _ in range(32))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 16, 32, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (root / "people" / "visible" / "p01" / "deep.png").write_bytes(png)
    return "sa-lab prepare folder --root people"


def of_table(change: Callable[[str], str], separator: str = "/") -> Callable[[Path], str]:
    def made(root: Path) -> str:
        list_ = table(root, separator)
        list_.write_text(change(list_.read_text()))
        return "sa-lab prepare manifest --root list.csv"

    return made


def of_nobody(root: Path) -> str:
    picture(root / "stranger.png", 99)
    picture(root / "gallery" / "a.png", 1, "RGB")
    return "sa-lab rank $RUN stranger.png gallery"


def nothing_to_search(root: Path) -> str:
    picture(root / "query.png", 1)
    (root / "gallery").mkdir()
    return "sa-lab rank $RUN query.png gallery"


def graded(root: Path) -> str:
    picture(root / "gallery" / "a.png", 1, "RGB")
    run("sa-lab embed $RUN --images gallery --modality visible --out gallery.npz")
    return "sa-lab evaluate gallery.npz --out graded"


def weights_of(content: bytes) -> Callable[[Path], str]:
    def made(root: Path) -> str:
        people(root / "people", 6)
        (root / "w.pth").write_bytes(content)
        return "sa-lab train tiny --data.dataset folder --data.root people --model.weights w.pth --run runs/x"

    return made


def whole_model(root: Path) -> str:
    torch.save(torch.nn.Linear(1, 1), root / "w.pth")
    return weights_of((root / "w.pth").read_bytes())(root)


def two_runs(root: Path) -> str:
    shutil.copytree(root / "data" / "runs" / "thermal-complete-seed0-x", root / "data" / "runs" / "thermal-complete-y")
    picture(root / "query.png", 1)
    return "sa-lab rank data/runs/thermal-complete-seed0-x data/runs/thermal-complete-y query.png ."


def no_run(command: str) -> Callable[[Path], str]:
    def made(root: Path) -> str:
        picture(root / "pictures" / "a.png", 1, "RGB")
        return command

    return made


def one_person(root: Path) -> str:
    """Of two, one is for testing."""
    people(root / "people", 2)
    return "sa-lab train tiny --data.dataset folder --data.root people --run runs/x"


def same_pictures(root: Path) -> str:
    """A run that starts from one of the same pictures, which tested other people."""
    people(root / "people", 9)
    run("sa-lab train tiny --data.dataset folder --data.root people --run runs/first")
    return (
        "sa-lab train tiny --data.dataset folder --data.root people --data.seed 5 --model.weights runs/first/model.pt "
        "--run runs/second"
    )


def own_function(root: Path) -> str:
    (root / "nets.py").write_text("def build(size): ...")
    return of_kind(6, "png", "L")(root) + " --model.backbone nets.py:build --model.weights random"


def one_sided(split: str) -> Callable[[str], str]:
    """A table with a column split, in which the first person has no infrared image and is for ``split``."""

    def changed(text: str) -> str:
        head, *rows = text.splitlines()
        rows = [
            f"{row},{split if ',p00,' in row else 'test' if ',p01,' in row else 'train'}"
            for row in rows if "infrared/p00" not in row
        ]  # fmt: skip
        return "\n".join([f"{head},split", *rows])

    return changed


def twice(text: str) -> str:
    """A person who is trained on, and asks in the last of three lines that follow two empty ones."""
    head, *rows = text.splitlines()
    asks = [row for row in rows if "infrared/p00/0" in row]
    rows = [f"{row},train" for row in rows if row not in asks]
    return "\n".join([f"{head},split", "", "", *rows, *(f"{row},query" for row in asks)])


def own_network(text: str) -> Callable[[Path], str]:
    """A function that builds a backbone of two layers, with something else."""

    def made(root: Path) -> str:
        lines = (
            "from torch import nn", "class Net(nn.Module):", " def __init__(self):", "  super().__init__()",
            "  self.stems = nn.ModuleList(nn.Conv2d(3, 4, 3, 2) for _ in range(2))",
            "  self.trunk, self.num_channels = nn.Conv2d(4, 8, 3, 2), 8", f"  {text}", "def build():", " return Net()",
        )  # fmt: skip
        (root / "nets.py").write_text("\n".join(lines))
        return of_kind(6, "png", "L")(root) + " --model.backbone nets.py:build --model.weights random"

    return made


def composed(root: Path) -> str:
    """A folder whose accents are written in another way than in the table."""
    of_table(lambda text: text.replace("/p00/", f"/{unicodedata.normalize('NFC', 'zoë')}/"))(root)
    for spectrum in ("visible", "infrared"):
        folder = root / "people" / spectrum
        (folder / "p00").rename(folder / unicodedata.normalize("NFD", "zoë"))
    return "sa-lab prepare manifest --root list.csv"


def mixed(root: Path) -> str:
    """Infrared of twelve bits, but for one picture."""
    picture(people(root / "people", 6, kind="12") / "infrared" / "p00" / "0.png", 3, "L")
    return "sa-lab prepare folder --root people"


WORKS = {
    "three people": of_kind(3, "png", "L"), "thirty people": of_kind(30, "png", "L"),
    "grey of twelve bits": of_kind(6, "png", "12"), "TIFF": of_kind(6, "tif", "L"), "WebP": of_kind(6, "webp", "L"),
    "a name in two spellings": two_spellings, "a table with the slashes of Windows": of_table(str, "\\"),
    "a query of nobody": of_nobody, "twelve bits and eight": mixed, "a path in another spelling": composed,
    "nobody in the gallery knows a test person": of_table(one_sided("gallery")),
    "a network of one's own": own_network("pass"),
    "a person in two spellings": of_table(
        lambda text: text.replace("png,p00", unicodedata.normalize("NFC", "png,zoë"), 1).replace(
            "png,p00", unicodedata.normalize("NFD", "png,zoë")
        )
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "loose files": (loose, r"stray\.png: expected in a folder .*/<identity>"),
    "one spectrum": (one_spectrum, r"p03: no such folder; every identity needs visible and infrared images"),
    "colour of sixteen bits": (deep_colour, "more than eight bits a channel in colour"),
    "rows with several faults": (
        of_table(lambda text: text.replace("p00/", "p99/").replace(",p04,", ",,")),
        r"list\.csv cannot be used: .*no such file; .*and \d+ more of this kind; .*; expected",
    ),
    "no picture": (nothing_to_search, "gallery: no picture; expected files"),
    "nobody is named": (graded, "nobody says who they are, .*expected person_ids"),
    "a path that leads nowhere": (
        of_table(lambda text: text.replace("p00/0.png", "p00/9.png", 1)), r"line \d+: .*9\.png: no such file",
    ),
    "outside": (of_table(lambda text: text.replace("people/infrared/p00/0.png", "../x.png", 1)), "lies outside of"),
    "no camera": (of_table(lambda text: text.replace(",camera,", ",view,")), "lacks the column camera"),
    "half a download": (weights_of(b"PK\x03\x04" + bytes(99)), r"w\.pth is damaged, or no file of weights"),
    "a web page": (weights_of(b"<!DOCTYPE html><html></html>"), r"w\.pth is damaged, or no file of weights"),
    "an empty file": (weights_of(b""), r"w\.pth is damaged, or no file of weights"),
    "a whole program": (whole_model, r"w\.pth is damaged.*it holds a program, not only tensors; save its state_dict"),
    "images that are too small": (
        lambda root: of_kind(6, "png", "L")(root) + " --model.backbone timm/convnext_atto --model.weights random",
        "images of 32x16 do not pass through timm/convnext_atto .*; expected larger ones \\(--data.height",
    ),
    "a function with an argument": (
        own_function, r"nets.py:build cannot be called: .*'size'; expected a function without arguments",
    ),
    "no such file of a backbone": (
        no_run("sa-lab train tiny --model.backbone gone.py:build --model.weights random"), "gone.py: no such file",
    ),
    "a table where a folder is wanted": (
        lambda root: f"sa-lab prepare folder --root {table(root)}", "is a file, expected a folder; for a table, .*mani",
    ),
    "no table": (no_run("sa-lab prepare manifest --root gone.csv"), "gone.csv: no such file; expected a table"),
    "a row twice": (
        of_table(lambda text: f"{text}\n{text.splitlines()[-1]}"), "p05/1.png is there twice .*; expected each once",
    ),
    "training people in one spectrum, by an image": (
        of_table(one_sided("train")),
        r"training identities \[of people/visible/p00/0.png\] have visible images but no infrared one",
    ),
    "a person trained on who asks, by line": (
        of_table(twice), r"lines 4 and 27, of person 'p00', are in training and in test; expected each",
    ),
    "another alphabet": (
        lambda root: (table(root).write_bytes("path,person\nzoë.png,zoë".encode("latin-1")), "sa-lab prepare manifest "
                      "--root list.csv")[1], "list.csv is no UTF-8, expected a table that is saved as CSV UTF-8",
    ),
    "channels that are none": (
        own_network("self.num_channels = 5"), r"nets.py:build gives \(1, 8, 31, 15\), expected a map \(1, 5, h, w\)",
    ),
    "a vector in place of a map": (
        own_network("self.trunk = nn.Flatten()"), r"nets.py:build gives \(1, 7812\), expected a map \(1, 8, h, w\)",
    ),
    "layers that do not fit": (
        own_network("self.trunk = nn.Conv2d(5, 8, 3)"), r"nets.py:build cannot take an image \(1, 3, 128, 64\): Given",
    ),
    "two runs to export": (
        lambda root: two_runs(root).replace("rank", "export").removesuffix(" query.png ."),
        "thermal-complete-y is a second run, expected one; sa-lab export --help",
    ),
    "an option that is none": (no_run("sa-lab rank $RUN a.png . --modalty visible"), "--modalty .* unrecognized by sa"),
    "nothing to embed into": (no_run("sa-lab embed $RUN"), "^sa-lab: --out is missing in sa-lab embed; sa-lab"),
    "a spectrum that is none": (
        no_run("sa-lab rank $RUN a.png . --modality thermal"), "--modality is thermal, expected one of infrared",
    ),
    "a preset that is none": (no_run("sa-lab train tny"), "^sa-lab: tny is unrecognized by sa-lab train; "),
    "a data set that is none": (no_run("sa-lab prepare foldr"), "^sa-lab: dataset is foldr, expected one of synth"),
    "a bound alone": (
        no_run("sa-lab train tiny --data.thermal-range 0"), r"--data.thermal-range is '0', expected .*FLOAT FLOAT",
    ),
    "a word for a number": (no_run("sa-lab rank $RUN a.png . -k five"), "-k/--k: invalid literal .* 'five'; sa"),
    "no pictures": (
        no_run("sa-lab embed $RUN --modality visible --out x.npz --images"), "--images is empty, expected files or",
    ),
    "a spectrum of a data set": (
        no_run("sa-lab embed $RUN --modality visible --out x.npz"), "--modality is visible, expected --images",
    ),
    "a pattern that fits two runs": (two_runs, "thermal-complete-y is a second run, expected one and then pictures"),
    "pictures in place of a run": (
        no_run("sa-lab rank pictures pictures pictures"), "pictures has no config.json, expected the folder of a run",
    ),
    "no folder in place of a run": (no_run("sa-lab export nowhere"), "nowhere is no folder, expected .* of a run"),
    "to go on from no run": (
        no_run("sa-lab train --from nowhere tiny --run runs/x"), "nowhere is no folder, expected the folder of a run",
    ),
    "one person left to learn": (one_person, "folder leaves 1 identities for training, expected at least 2"),
    "a dial out of range": (no_run("sa-lab train tiny --model.num-parts 0"), "^sa-lab: model.num_parts is 0, expected"),
    "no root": (no_run("sa-lab prepare folder"), "^sa-lab: --root is None, expected the folder"),
    "semicolons": (
        of_table(lambda text: text.replace(",", ";")), "lacks the column path, .*; expected .*, separated by commas",
    ),
    "people of the run before": (same_pictures, r"the same pictures, or copies of them\); expected the split of that"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_what_works(place: Path, name: str) -> None:
    run(WORKS[name](place))


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_says_in_one_line_what_to_do(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, told = REFUSED[name]
    command = make(place)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(command)
    message = capsys.readouterr().err if caught.value.code == 2 else str(caught.value.code)
    assert re.search(told, message), message
    assert "\n" not in message.strip()


def test_mixed_depths_are_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(mixed(place))
    said = "".join(capfd.readouterr())
    assert re.search(r"11 with more than eight bits: [\d.]+ becomes black and [\d.]+ white, the 1st and 99th", said), (
        said
    )
    assert "11 of 12 infrared images have more than eight bits" in said


def test_what_the_bounds_of_a_run_do_not_fit_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A query that lies outside of them, one of eight bits, and nothing of a gallery in colour."""
    people(place / "people", 6, kind="12")
    run("sa-lab train tiny --data.dataset folder --data.root people --data.thermal-range 9000 9500 --run runs/deep")
    picture(place / "gallery" / "a.png", 1, "RGB")
    for kind, told in (("12", "1 of these lie wholly outside"), ("L", "1 infrared images have eight bits: ")):
        picture(place / f"{kind}.png", 1, kind)
        capfd.readouterr()
        run(f"sa-lab rank runs/deep {kind}.png gallery")
        said = "".join(capfd.readouterr())
        assert told in said
        assert said.count("eight bits") == 1, "nothing of the gallery"


def test_people_with_the_names_of_those_trained_on_are_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With other pictures: nobody but the user knows whether they are the same."""
    people(place / "people", 9)
    run("sa-lab train tiny --data.dataset folder --data.root people --run runs/first")
    for number, file in enumerate(sorted((place / "people").rglob("*.png"))):
        picture(file, 1000 + number, "L")
    capfd.readouterr()
    run("sa-lab embed runs/first --dataset folder --root people --out same-split.npz")
    assert "are called as" not in "".join(capfd.readouterr()), "the same people are for testing"
    run(
        "sa-lab train tiny --data.dataset folder --data.root people --data.seed 5 --model.weights runs/first/model.pt "
        "--run runs/second"
    )
    told = "".join(capfd.readouterr())
    assert re.search(r"\d test people are called as people that .*runs/first was trained on, with other pictures", told)
    assert told.count("are called as") == 1


def test_a_run_that_was_refused_leaves_its_folder_free(place: Path) -> None:
    command = weights_of(b"<!DOCTYPE html><html></html>")(place)
    with pytest.raises(SystemExit, match="make or fetch it anew"):
        run(command)
    assert not (place / "runs" / "x" / "made_of.json").exists()
    run(command.replace("--model.weights w.pth", "--model.weights random"))
    assert (place / "runs" / "x" / "report.json").is_file()


def test_a_dead_link_is_counted_and_named(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(dead_link(place))
    said = "".join(capfd.readouterr())
    assert re.search(r"gone\.png.*link", said), said
