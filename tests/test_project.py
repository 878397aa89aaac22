"""What the repository promises around the library: README, environment.yml, chapters, command line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
import readme
import yaml
from test_workers import CONFIG

import sa_lab
from sa_lab import cli, experiment
from sa_lab.config import PRESETS, ExperimentConfig, TrainConfig
from sa_lab.course import chapters, claims, exercises
from sa_lab.course.parameters import read
from sa_lab.disk import home
from sa_lab.evaluation.protocols import PROTOCOLS
from sa_lab.evaluation.search import evaluate
from sa_lab.schema import Embeddings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDES = {path.stem: path.read_text() for path in sorted((ROOT / "notebooks" / "guides").glob("*.md"))}
CHAPTERS = chapters.chapters()


def snippets(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    (loss,), (own,), (descriptors, measures) = map(snippets, (README, GUIDES["own_loss"], GUIDES["evaluation"]))
    exec(loss, scope)
    assert scope["criterion"].prototypes.grad is not None
    exec(measures, {})
    exec(descriptors, {})
    ours: dict = {}
    exec(own, ours)
    assert exercises.check_design(ours["closeness"]).status == "right"
    loggers = snippets(GUIDES["cluster"])
    assert len(loggers) == 2
    for logger in loggers:
        rows: list[dict] = []
        config = CONFIG.replace("seed", len(logger))
        with monkeypatch.context() as doubles:
            for name in ("mlflow", "wandb"):
                doubles.setitem(sys.modules, name, double_of_a_logger(rows))
            exec(logger, {"experiment": experiment, "config": config})
        assert [row["step"] for row in rows] == [*range(4)]
    for name in ("sysu-all", "sysu-indoor"):
        assert evaluate(Embeddings.load(tmp_path / "theirs.npz"), PROTOCOLS[name], draws=5).num_queries == 2


def double_of_a_logger(rows: list[dict]) -> ModuleType:
    """What the snippets ask of mlflow and of wandb, which are not installed here."""
    module = ModuleType("double")
    run = SimpleNamespace(log=lambda row: rows.append(dict(row)))
    module.start_run = module.init = lambda **_: nullcontext(run)
    module.log_metrics = lambda row, step: rows.append({**row, "step": step})
    return module


def test_pages_print_the_committed_results() -> None:
    assert readme.filled(readme.texts()) == readme.texts(), "make readme"
    result = readme.result("bench-cpu")
    assert sum(result["overlap"]["seconds"].values()) < 300
    assert max(result["overlap"]["peak_gb"].values()) < 6


def test_readme_is_short() -> None:
    assert len(README.split()) <= 900
    assert len(README.splitlines()) <= 130


def test_what_the_readme_says_of_both_losses_holds() -> None:
    first, second = (readme.result(f"main-{dataset}") for dataset in readme.SETS)
    spans = {
        (dataset["dataset"], name): claims.paired(dataset, "complete", "softmax", name)
        for dataset in (first, second) for name in ("mean_ap", "stranger_ratio", "prototype_alignment")
    }  # fmt: skip
    assert len(first["seeds"]) >= 10
    assert spans["thermal", "mean_ap"]["low"] > 0
    assert spans["thermal", "stranger_ratio"]["high"] < 0, "the two spectra come closer"
    assert spans["synthetic", "mean_ap"]["low"] < 0, "it does not hold"
    assert max(spans[dataset, "prototype_alignment"]["high"] for dataset in readme.SETS) < 0, "nowhere"
    pieces = claims.effects(readme.result("pieces-thermal"), "complete")
    assert max(pieces["own_target"][2], pieces["synchronous"][2]) < 0, "needed"
    assert all(low < 0 < high for _, low, high in (pieces["no_mask"], pieces["no_absolute"])), "no difference"


def test_commands_give_every_process_its_share() -> None:
    """The identities of a batch are shared evenly, and batch statistics are those of the whole batch."""
    text = re.sub(r"\\\n\s*", "", GUIDES["cluster"].split("## Several GPUs", 1)[1])
    commands = [line for line in text.splitlines() if re.match(r"(sa-lab|torchrun|srun)", line)]
    assert len(commands) == 4
    for command in commands:
        dials = dict(re.findall(r"--(nnodes|nproc-per-node|processes|train\.ids-per-batch) (\d+)", command))
        processes = int(dials.get("processes", 1)) * int(dials.get("nnodes", 1)) * int(dials.get("nproc-per-node", 1))
        ids = int(dials.get("train.ids-per-batch", PRESETS["paper"]().train.ids_per_batch))
        assert ids % processes == 0, command
        assert ("--train.sync-batch-norm" in command) == (processes > 1)


def test_a_text_without_a_place_for_a_number_is_refused() -> None:
    pages = {page: text.replace("<!-- playground -->", "") for page, text in readme.texts().items()}
    with pytest.raises(ValueError, match="0 places for playground, expected one"):
        readme.filled(pages)


def test_a_guide_names_every_protocol() -> None:
    for name in PROTOCOLS:
        base = re.sub(r"-\d+$", "-1", name).removesuffix("-official")
        assert f"`{base}`" in GUIDES["evaluation"], name


@pytest.mark.parametrize("name", ["study-thermal", "study-roadscene"])
def test_a_whole_study_is_printed(name: str) -> None:
    result = readme.result(name)
    assert len(result["seeds"]) >= 5
    assert set(result["variants"]) >= {"softmax", "complete"}


def test_readme_names_files_and_chapters_that_exist() -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).is_file(), target
    assert all(path.name in README for path in CHAPTERS)
    assert all(f"guides/{name}.md" in README for name in GUIDES)
    for name, text in GUIDES.items():
        for target in re.findall(r"\]\(((?!http|#)[^)#]+)[^)]*\)", text):
            assert (ROOT / "notebooks" / "guides" / target).is_file(), f"{target} in {name}"


def test_environment_takes_its_versions_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-e .[" + ",".join(project["optional-dependencies"]) + "]"]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert python == "python=" + project["requires-python"].removeprefix(">=")


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / ".ci" / "constraints.txt").read_text().split()
    }
    names = {re.split("[>=<\\[]", entry)[0].lower() for entry in wanted} - {"sa-lab"}
    assert names <= pinned, names - pinned


def test_the_wheel_holds_chapters_and_results() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"notebooks": "sa_lab/notebooks", "data/results": "sa_lab/results"}


def test_only_the_agreed_top_level() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {path.split("/")[0] for path in tracked} <= {
        "notebooks", "sa_lab", "data", "tests", "environment.yml", "README.md", "pyproject.toml", "Makefile", ".ci",
        "LICENSE", "CHANGELOG.md", ".gitignore", ".github", ".pre-commit-config.yaml", "CITATION.cff",
    }  # fmt: skip


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_clean_and_in_shape(path: Path) -> None:
    assert path.stat().st_size <= chapters.SIZE_LIMIT
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = path.read_text(encoding="utf-8")
    assert chapters.clean(nbformat.reads(text, as_version=4)) == notebook
    assert not re.search(r"/home/|/root/|/tmp/|/Users/|it/s\]|step/s", text), "a path or a progress bar"
    assert str(ROOT) not in text
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(len(cell.source.splitlines()) <= 15 for cell in code)
    assert not any(re.search(r"^\s*class ", cell.source, re.M) for cell in code)
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    own = ["run", "preset"] if path.name.startswith("05") else []
    trained = not path.name.startswith(("00", "01", "02"))
    last = [] if path.name.startswith(("01", "02")) else ["epochs"]
    last += ["loss", "mask_value", "similarity_weight", "sas_weight", "warmup_steps", "dials"] if trained else []
    assert re.findall(r"^(\w+) =", parameters.source, re.M) == ["dataset", "root", *own, "seed", *last]
    epochs = 0 if own else TrainConfig.num_epochs
    assert re.findall(r"^epochs = (\d+) ", parameters.source, re.M) == [str(epochs)] * bool(last)
    if trained and not own:  # those of the preset
        values: dict = {}
        exec(parameters.source, values)
        assert read(values) == (ExperimentConfig(), ExperimentConfig(), "SA-Softmax")
    assert all(cell.execution_count for cell in code), "not executed: make render"
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    figures = [output.data for cell in code for output in cell.outputs if chapters.FIGURE in output.get("data", {})]
    assert all({"image/png", "image/jpeg"} & data.keys() for data in figures), "a figure without its picture"


def test_cells_are_compared_in_every_chapter() -> None:
    """What does not depend on the processor: counts, shapes, losses on fixed inputs, verdicts, heads of tables."""
    compared = [
        sum("nbval-check-output" in cell.metadata.get("tags", []) for cell in nbformat.read(path, as_version=4).cells)
        for path in CHAPTERS
    ]
    assert sum(compared) >= 60
    assert min(compared) >= 4
    assert "--nbval-sanitize-with tests/nbval_sanitize.cfg" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("output", "compared"),
    [
        ("| softmax | 0.93 | -23.97 |", "| softmax | # | # |"),
        ("| 25.3 [24.1, 26.5] | 1.5 ± 0.2 |", "| # [#, #] | # ± # |"),
        ("|-------|---|   |", "|---|---| |"),
        ("6084 images of 64x32 pixels", "6084 images of 64x32 pixels"),
        ("(0.5528, 0.6931)", "(0.5528, 0.6931)"),
        ("version 1.2.3", "version 1.2.3"),
        ("| train images | 2,912 |", "| train images | 2,912 |"),
    ],
)
def test_only_decimals_of_trainings_are_left_out(output: str, compared: str) -> None:
    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    rules = re.findall(r"^regex: (.*)$\n^replace: (.*)$", text, re.M)
    assert len(rules) == 3
    for pattern, replacement in rules:
        output = re.sub(pattern, replacement, output)
    assert output == compared


def test_what_github_reads_agrees_with_the_repository() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    packages = "pipx run build --outdir data/dist && pipx run twine check --strict data/dist/*"
    assert [step["run"] for step in steps if "run" in step] == [".ci/run", packages, "make html"]
    assert steps[-1]["with"]["path"] == "data/site"
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (sa_lab.__version__, "MIT")
    pins = dict(line.split("==") for line in (ROOT / ".ci" / "constraints.txt").read_text().split() if "==" in line)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [one["rev"].removeprefix("v") for one in hooks] == [pins["ruff"], pins["nbstripout"]]
    contributing = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"`make (\w+)`", contributing)) <= set(targets)


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^01_\w+\.ipynb: no parameter datset, expected some of dataset, root, seed$"):
        chapters.execute(tmp_path / "out", {"datset": "thermal"}, only=["01"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "nowhere", "--protocol", "sysu"], "expected names among sysu-all"),
        (["prepare", "roadscene"], "root is None, expected the folder of the roadscene data set"),
        (["prepare", "folder", "--root", "nowhere"], "nowhere"),
        (["train", "tiny", "--train.device", "mps"], "train.device is 'mps', which this machine does not have"),
        (["course", "--dataset", "roadscene"], "root is None"),
        (["course", "--root", "somewhere"], "expected none"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert message in str(stop.value)


def test_wrong_option_says_what_is_allowed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["prepare", "market"])
    printed = capfd.readouterr()
    assert "roadscene" in printed.out + printed.err


@pytest.mark.parametrize(
    "command",
    ["prepare", "generate", "train", "evaluate", "embed", "report", "compare", "study", "course", "app", "bench"],
)
def test_every_option_has_help(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, *(["tiny"] if command in ("train", "study") else []), "--help"])
    text = re.sub(r"[│╭╮╰╯─]", " ", capfd.readouterr().out)
    entries = re.split(r"\n\s+(?=--|\[?[A-Z]+\b.*PATH)", text.split("options", 1)[1])
    for entry in entries[1:]:
        words = re.sub(r"^--\S+(\s+(\{.*?\}\|?\S*|\[.*?\](\s*\.*\]*)*|[A-Z]{2,}\S*))*", "", entry, flags=re.S)
        assert re.search(r"[a-z]{3}", re.sub(r"\((default|required).*?\)", "", words, flags=re.S)), entry


def test_core_imports_no_notebook_package() -> None:
    code = (
        "import sys, sa_lab.cli\n"
        "heavy = {'plotly', 'IPython', 'ipywidgets', 'umap', 'papermill', 'jupyterlab'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_runs_and_caches_of_tests_stay_out_of_the_checkout() -> None:
    assert ROOT not in home().parents
