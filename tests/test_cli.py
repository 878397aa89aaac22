"""The commands before they do anything: help and usage errors come at once, without the training engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sa_lab
from sa_lab import cli
from sa_lab.config import PRESETS, ExperimentConfig
from sa_lab.disk import locked
from sa_lab.runs import Run

WRONG = (
    "", "nonsense", "train", "train huge", "train tiny --loss.mask-value x", "train tiny --loss.mask 3",
    "train tiny --data.dataset nowhere", "train tiny --train.milestones a", "train tiny --config", "train tiny --run",
    "evaluate", "evaluate x --rerank 1 2", "embed", "embed x", "report x --style bold", "compare x", "generate sysu",
    "prepare nowhere", "course --epochs many", "study tiny --seeds one", "app --port here",
)  # fmt: skip


def sa_lab_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sa_lab", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("arguments", ["--help", "train tiny --help", "course --help", "report"])
def test_help_and_usage_errors_load_little_more_than_the_parser(arguments: str) -> None:
    """So they come at once: what is not loaded takes no time."""
    code = (
        "import sys\nfrom sa_lab import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    told = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True).stdout
    loaded = set(told.splitlines()[-1].split())
    assert {"sa_lab", "tyro", "cattrs"} <= loaded
    assert not loaded & {
        "torch", "torchvision", "lightning", "lightning_fabric", "scipy", "sklearn", "PIL", "joblib", "pyarrow", "tqdm",
        "plotly", "umap", "numba", "papermill", "nbformat", "IPython", "ipywidgets", "kaleido", "pdoc", "timm",
    }  # fmt: skip


def test_help_stays_small() -> None:
    code = (
        "import sys\nfrom sa_lab import cli\n"
        "try:\n    cli.main(['train', 'tiny', '--help'])\nexcept SystemExit:\n    pass\n"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print(int(peak[0].split()[1]) // 1024)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert int(told.split()[-1]) < 150


@pytest.mark.parametrize("arguments", WRONG)
def test_no_error_names_an_inside_of_the_parser(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code not in (None, 0)
    told = capsys.readouterr()
    assert not re.search(r"__|Traceback", told.out + told.err + str(stop.value.code))


def test_version() -> None:
    assert sa_lab_command("--version").stdout == f"sa-lab {sa_lab.__version__}\n"
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert sa_lab.__version__ not in pyproject, "written in one place"


@pytest.mark.parametrize("kind", ["nested", "dotted", "tabs", "yaml", "last release"])
def test_a_file_of_dials_stands_before_the_preset_and_behind_options(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ("dials.yaml" if kind == "yaml" else "dials.json")
    dials = {"loss": {"mask_value": 7, "similarity_weight": 2}, "seed": 3}
    written = {
        "nested": json.dumps(dials),
        "dotted": json.dumps({"loss.mask_value": 7, "loss.similarity_weight": 2, "seed": 3}),
        "tabs": json.dumps(dials, indent="\t"),
        "last release": json.dumps(dials | {"train": {"sample_rate": 1.0, "compile": False}}),
        "yaml": "loss:\n  mask_value: 7\n  similarity_weight: 2\nseed: 3\n",
    }  # fmt: skip
    file.write_text(written[kind])
    given = []
    monkeypatch.setattr("sa_lab.experiment.run", lambda config, *_, **__: given.append(config) or Run(tmp_path))
    monkeypatch.setattr("sa_lab.reporting.comparison.tables_of", lambda *_: "")
    cli.main(["train", "small", "--config", str(file), "--loss.similarity-weight", "0.5"])
    assert given == [PRESETS["small"]().replace(dials).replace("loss.similarity_weight", 0.5)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON or YAML"), ("[1]", "holds list, expected dials by name"), ("null", "holds NoneType"),
        ('{"loss": {"mask": 1}}', "there is no dial loss.mask, expected some of data.dataset"),
        ('{"loss.mask_value": -1}', "loss.mask_value is -1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_config_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "my.json"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "tiny", f"--config={file}"])
    assert told in str(stop.value.code)
    assert "\n" not in str(stop.value.code)


def test_a_file_of_dials_is_read_for_the_commands_that_take_one() -> None:
    told = sa_lab_command("evaluate", "x", "--config", "nowhere")
    assert told.returncode
    assert "nrecognized" in told.stdout + told.stderr


def test_what_people_look_for_is_offered_and_comes_when_asked_for() -> None:
    code = "import sys, sa_lab\nassert 'torch' not in sys.modules\nprint(*dir(sa_lab))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert {"SASoftmaxLoss", "ExperimentConfig", "run", "Run", "load_embeddings"} <= set(told.stdout.split()), (
        told.stderr
    )
    for name in sa_lab.__all__:
        assert callable(getattr(sa_lab, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'Runs'; it offers ExperimentConfig"):
        sa_lab.Runs  # noqa: B018
    code = "import sys, sa_lab\nprint(*sorted(name for name in sys.modules if name.startswith('sa_lab')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert told.split() == ["sa_lab"], "what is named is loaded when it is asked for"


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])
def test_text_is_utf8_whatever_the_locale(locale: str, tmp_path: Path) -> None:
    """Written and read: a warning of Python's tells of any text file that is opened in the locale's encoding."""
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from sa_lab import disk
        from sa_lab.config import ExperimentConfig
        from sa_lab.data import copies, regdb
        from sa_lab.data.files import name_of
        from sa_lab.reporting import page, tables
        from sa_lab.plots import thumbnails

        root = Path(sys.argv[1])
        disk.write_json(root / "a.json", {"ö": "é|‰"})
        assert disk.read_json(root / "a.json") == {"ö": "é|‰"}
        disk.write_csv(root / "a.csv", [{"ö": "ü"}])
        assert disk.read_csv(root / "a.csv") == {"ö": ["ü"]}
        ExperimentConfig().replace("model.weights", "größe").save(root / "c.json")
        assert ExperimentConfig.load(root / "c.json").model.weights == "größe"
        copies.write("regdb", root / "copy", 2, 2)
        assert len(regdb.listing(root / "copy")) == 80
        assert [name_of(path.name) for path in (root / "names").iterdir()] == ["zoë"]
    """)
    (tmp_path / "names" / "zoë").mkdir(parents=True)
    environment = {
        **os.environ, "LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "PYTHONWARNDEFAULTENCODING": "1", "PYTHONPATH": str(Path(sa_lab.__file__).parents[1]),
    }  # fmt: skip
    file = tmp_path / "script.py"
    file.write_text(script, encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-W", "error::EncodingWarning:sa_lab", file, tmp_path], capture_output=True, env=environment
    )
    assert told.returncode == 0, told.stderr.decode(errors="replace")[-1500:]


def test_runs_are_listed_and_removed(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    cli.main(["runs"])
    assert f"no run is in {tmp_path / 'runs'}" in capsys.readouterr().out
    place = tmp_path / "runs"
    for name, seed in (("a", 0), ("b-seed1", 1), ("b-seed2", 2)):
        people_config.replace({"seed": seed, "loss.mask_value": 5.0}).save(place / name / "config.json")
    (place / "a" / "report.json").write_text("{}")
    (place / "a" / "model.pt").write_bytes(bytes(3_000_000))
    (place / "broken").mkdir()
    (place / "broken" / "config.json").write_text("{")
    (place / "stranger").mkdir()
    cli.main(["runs"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    assert re.search(r"complete, mask_value 5 +0 .*height 32.*finished +3 +0\.0$", lines["a"])
    assert "not finished" in lines["b-seed1"]
    assert "config.json cannot be read" in lines["broken"]
    for words, said in (
        (["x"], "there is no run x"), (["--prune"], "would remove every run"),
        (["stranger", "--prune"], r"stranger in .* has no config.json"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=said):
            cli.main(["runs", *words])
    with locked(place / "b-seed2", "is a test"), pytest.raises(SystemExit, match="b-seed2 is in use"):
        cli.main(["runs", "b-*", "--prune"])
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["a", "b-seed2", "broken", "stranger"]
    cli.main(["runs", "a", "--prune"])
    assert "removed a\n3 MB are free now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (KeyboardInterrupt(), "sa-lab: prepare was stopped; the same command goes on with what is finished"),
        (
            KeyboardInterrupt("stopped after step 3; the same call goes on from there"),
            "sa-lab: stopped after step 3; .*",
        ),
    ],
)
def test_an_interrupt_is_one_line_wherever_it_comes(
    stop: KeyboardInterrupt, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr("sa_lab.data.list_images", interrupted)
    with pytest.raises(SystemExit, match=f"^{said}$"):
        cli.main(["prepare"])
