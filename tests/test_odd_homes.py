"""Machines that are not ours: odd paths, read-only folders, no home, parts of the packages, no locks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sa_lab import cli, disk, experiment
from sa_lab.config import ExperimentConfig
from sa_lab.course import chapters
from sa_lab.disk import Refusal, check_output, home, locked
from sa_lab.schema import DataError, Embeddings
from sa_lab.weights import save_state

ROOT = Path(__file__).parents[1]


def sa_lab(*words: str, library: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; ``environment``: variables, an empty one is unset."""
    merged = {**os.environ, "PYTHONPATH": str(library), **environment}
    return subprocess.run(
        [sys.executable, "-m", "sa_lab", *words], capture_output=True, text=True, encoding="utf-8", cwd=library,
        env={name: value for name, value in merged.items() if value},
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    return [line for line in done.stderr.replace("\r", "\n").split("\n") if line.strip()][-1]


# ---- places


def test_make_bears_blanks_and_umlauts(tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("no make")
    place = tmp_path / "meine Übung (1)"
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".ci").mkdir()
    for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt"):
        shutil.copy(ROOT / name, place / name)
    for name in ("python", "sa-lab"):
        script = place / ".venv" / "bin" / name
        script.write_text(f'#!/bin/sh\necho "{name} $@" >> "{place}/said"\n', encoding="utf-8")
        script.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(place), f"PYTHON={sys.executable}", "run"], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    said = (place / "said").read_text(encoding="utf-8")
    assert "python -m pip install" in said
    assert "sa-lab course --dataset thermal" in said


@pytest.fixture
def read_only_disk(tmp_path: Path, people_config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk with a prepared cache and a finished run, which can only be read by now."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    try:
        with monkeypatch.context() as patch:
            patch.setenv("SA_LAB_HOME", str(place))
            experiment.run(people_config, place / "run", progress=False)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
def test_a_home_that_can_only_be_read_is_read(
    read_only_disk: Path, people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SA_LAB_HOME", str(read_only_disk))
    run = read_only_disk / "run"
    assert experiment.run(people_config, run, progress=False).report.num_queries > 0
    cli.main(["evaluate", str(run)])
    said = capsys.readouterr()
    assert "Rank-1" in said.out
    assert "is read-only, so these reports are not saved; choose another folder with --out" in said.err
    assert "reports are in" not in said.out
    cli.main(["report", str(run), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").stat().st_size > 100_000
    cli.main(["embed", str(run), "--out", str(tmp_path / "out.npz")])
    with pytest.raises(
        SystemExit, match=r"the file to write is .*out\.npz, but .*disk cannot be written to: Read-only"
    ):
        cli.main(["embed", str(run), "--out", str(read_only_disk / "out.npz")])


def test_where_there_is_no_home_one_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SA_LAB_HOME")
    monkeypatch.setattr(disk, "checkout", lambda: None)
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(Refusal, match="set SA_LAB_HOME to one"):
        home()


def test_a_checkout_that_can_only_be_read_leaves_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SA_LAB_HOME")
    assert home() == ROOT / "data"
    monkeypatch.setattr(disk, "can_be_written", lambda folder: folder != ROOT / "data")
    assert home() == Path.home() / ".cache" / "sa_lab"
    monkeypatch.setattr(disk, "can_be_written", lambda _: False)
    monkeypatch.setattr(Path, "home", lambda: Path("/nobody"))
    with pytest.raises(Refusal, match=r"cannot be made: /nobody/.cache/sa_lab; set SA_LAB_HOME to another one"):
        home()
    monkeypatch.setenv("SA_LAB_HOME", "/nowhere")
    with pytest.raises(Refusal, match="cannot be made: /nowhere"):
        home()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to be another user")
def test_the_lock_of_another_user_is_respected(tmp_path: Path) -> None:
    """In a folder where both may write; in one that can only be read there is nothing to lock."""
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import filelock  # before this user has no access to the packages
        from sa_lab.disk import Refusal, locked
        filelock.FileLock, filelock.SoftFileLock, filelock.Timeout
        os.setuid(65534)
        for name in ("shared", "closed"):
            try:
                with locked(Path(sys.argv[1]) / name / "run", "trains run"):
                    print(name, "entered")
            except Refusal as refusal:
                print(name, refusal)
    """)
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folder is closed to others
    try:
        place.chmod(0o755)
        for name, mode in (("shared", 0o777), ("closed", 0o755)):
            (place / name).mkdir()
            (place / name).chmod(mode)
            (place / name / ".run.lock").touch(0o600)
        done = subprocess.run(
            [sys.executable, "-c", script, place], capture_output=True, text=True, cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    finally:
        shutil.rmtree(place)
    assert "shared" in done.stdout, done.stderr[-1500:]
    assert ".run.lock is another user's, so nobody else can make run" in done.stdout
    assert "closed entered" in done.stdout


def test_projections_do_without_a_place_to_keep_them(tmp_path: Path) -> None:
    """No home, and packages that can only be read."""
    script = textwrap.dedent("""
        import os, sys
        from sa_lab.analysis import projection
        projection.can_be_written = lambda folder: False
        import numpy as np
        rng = np.random.default_rng(0)
        drawn = projection.project(rng.normal(size=(12, 4)).astype(np.float32), rng, num_neighbors=5)
        print(drawn.samples.shape, "sa-lab-numba-" in os.environ["NUMBA_CACHE_DIR"])
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SA_LAB_HOME": str(tmp_path / "nowhere")}
    environment |= {"NUMBA_DISABLE_JIT": "1"}  # what is compiled is kept where the variable says, in all other tests
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n")[0] == "(12, 2) True", done.stderr[-1500:]
    assert not (tmp_path / "nowhere").exists()


def test_a_locale_without_umlauts(people_config: ExperimentConfig, tmp_path: Path) -> None:
    place = tmp_path / "Übung"
    done = sa_lab(
        "prepare", "folder", "--root", str(people_config.data.root), "--height", "16", "--width", "8",
        SA_LAB_HOME=str(place), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert list(place.glob("prepared/*/images.npy"))
    run = experiment.run(people_config, tmp_path / "run", progress=False).folder
    words = sa_lab("evaluate", str(run), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    assert words.returncode == 0, words.stderr[-1500:]
    assert "reports are in" in words.stdout


@pytest.mark.parametrize("command", ["report", "course", "app"])
def test_without_the_notebooks_the_extra_is_named(command: str, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        for name in ("plotly", "papermill", "ipywidgets", "kaleido", "voila", "nbformat", "umap"):
            sys.modules[name] = None
        from sa_lab import cli
        cli.main(sys.argv[1:])
    """)
    words = [command]
    if command == "report":
        ids, spectra = np.repeat(np.arange(4), 4), np.tile([0, 0, 1, 1], 4)
        rows = np.random.default_rng(0).normal(size=(16, 1, 8)).astype(np.float32)
        names = tuple(f"{i}.png" for i in range(16))
        Embeddings(None, rows, ids, np.where(spectra, 3, 1), spectra, names).save(tmp_path / "t.npz")
        cli.main(["evaluate", str(tmp_path / "t.npz"), "--dataset", "sysu", "--out", str(tmp_path / "evaluated")])
        words.append(str(tmp_path / "evaluated"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SA_LAB_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, env=environment)
    assert "pip install 'sa-lab[notebooks]'" in last_line(done)


def test_who_has_the_wheel_alone_gets_the_chapters(tmp_path: Path) -> None:
    """As the wheel lays them out: beside the library's modules. A copy is to work in, and nothing of it is replaced."""
    library, home = tmp_path / "library", tmp_path / "home"
    shutil.copytree(ROOT / "sa_lab", library / "sa_lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", library / "sa_lab" / "notebooks")
    shutil.copytree(ROOT / "data" / "results", library / "sa_lab" / "results")
    done = sa_lab("notebooks", str(tmp_path / "mine"), library=library, SA_LAB_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "mine").glob("0*.ipynb")} == {path.name for path in chapters.chapters()}
    assert (tmp_path / "mine" / "guides" / "glossary.md").is_file()
    assert (home / "results" / "main-thermal.json").is_file(), "what the chapters show of the studies"
    (tmp_path / "mine" / "00_start_here.ipynb").write_text("mine", encoding="utf-8")
    again = sa_lab("notebooks", str(tmp_path / "mine"), library=library, SA_LAB_HOME=str(home))
    assert last_line(again).endswith("is there already, expected a new or an empty folder")
    assert (tmp_path / "mine" / "00_start_here.ipynb").read_text(encoding="utf-8") == "mine"


# ---- what is written, and where


@pytest.mark.parametrize(
    ("path", "suffixes", "told"),
    [
        ("/dev/null", (), "which is a device"),
        ("/dev/null", (".npz",), "expected a name that ends in .npz"),
        (".", (), "which is a folder"),
        ("ours", (".npz",), "is ours, expected a name that ends in .npz"),
        ("page.pdf", (".html", ".htm"), "expected a name that ends in .html or .htm"),
        ("/dev/null/x.npz", (".npz",), "but /dev/null cannot be written to: Not a directory"),
        ("/proc/x.npz", (".npz",), "but /proc cannot be written to"),
    ],
)
def test_what_is_no_place_for_a_file_is_refused(path: str, suffixes: tuple[str, ...], told: str) -> None:
    with pytest.raises(Refusal, match=re.escape(told)):
        check_output(Path(path), *suffixes)


def test_nothing_takes_the_place_of_a_device_or_of_somebodys_file(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = experiment.run(people_config, tmp_path / "run", progress=False).folder
    ours = tmp_path / "ours"
    ours.write_text("mine")
    for words in (
        ["embed", str(run), "--out", "/dev/null"], ["embed", str(run), "--out", str(ours)],
        ["report", str(run), "--out", "/dev/null"], ["report", str(run), "--style", "csv", "--out", str(ours)],
        ["report", str(run), "--out", str(tmp_path)], ["study", "tiny", "--out", str(ours)],
        ["study", "tiny", "--out", "/dev/null"],
    ):  # fmt: skip
        with pytest.raises(SystemExit, match="sa-lab: the file to write is"):
            cli.main(words)
    with pytest.raises(Refusal, match="which is a device"):
        disk.write_text(Path("/dev/null"), "text")
    assert ours.read_text() == "mine"
    assert Path("/dev/null").is_char_device()
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    with pytest.raises(SystemExit, match=r"other\.json holds something other than a study"):
        cli.main(["study", "tiny", "--out", str(other)])
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match="is a file or a device; expected another one"):
            experiment.run(people_config, place, progress=False)
        assert not place.with_name(f".{place.name}.lock").exists()


@pytest.mark.parametrize(("number", "kept"), [(errno.EIO, False), (errno.ENOSPC, False), (errno.EINVAL, True)])
def test_a_write_that_fails_late_leaves_what_was_there(
    number: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some disks say only when a file is synced that it did not go through; others cannot sync at all."""
    file = tmp_path / "a.json"
    disk.write_json(file, {"a": 1})

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if kept:
        disk.write_json(file, {"a": 2})
    else:
        with pytest.raises(OSError, match=r"a\.json"):
            disk.write_json(file, {"a": 2})
    assert disk.read_json(file) == {"a": 2 if kept else 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_name_reaches_the_disk_before_it_stands_for_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content, then name, then the folder that holds the name."""
    done: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    for write in (
        lambda path: disk.write_text(path, "text"), lambda path: disk.write_json(path, {"a": 1}),
        lambda path: save_state(path, {"a": 1}),
    ):  # fmt: skip
        done.clear()
        write(tmp_path / "file")
        assert "~" in done[0]
        assert done[1:] == ["rename", str(tmp_path)]


# ---- locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.filterwarnings("ignore:.*flock")
def test_a_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands for the lock, and goes with it."""

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    heard: list[int] = []
    monkeypatch.setattr(disk, "_ASK_AGAIN", 0.2)

    class Enough(Exception):
        pass

    def wait() -> None:
        heard.append(1)
        if len(heard) == 2:
            raise Enough

    def another() -> None:
        with locked(tmp_path / "run", "trains run", wait):
            pytest.fail("two hold it")

    with locked(tmp_path / "run", "trains run"), pytest.raises(Enough):
        another()
    with locked(tmp_path / "run", "trains run"):
        pass


def test_of_four_that_write_the_same_copy_one_wins_and_the_others_say_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sa_lab", "generate", "llcm", str(tmp_path / "copy"), "--train-ids", "8"]
    command += ["--test-ids", "4", "--images-per-camera", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SA_LAB_HOME": str(tmp_path)}
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) for _ in range(4)]
    said = [one.communicate(timeout=300)[1] for one in started]
    assert sorted(one.returncode for one in started) == [0, 1, 1, 1]
    for one, text in zip(started, said, strict=True):
        assert "Traceback" not in text
        assert ("exists already; expected a new or empty folder" in text) == bool(one.returncode)


# ---- strangers


def test_a_strangers_run_reads_no_images_that_are_not_its_own(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    run = experiment.run(people_config, tmp_path / "run", progress=False).folder
    mine = tmp_path / "mine"
    shutil.copytree(str(people_config.data.root), mine)
    (mine / "visible" / "p00").rename(mine / "visible" / "private")
    (mine / "infrared" / "p00").rename(mine / "infrared" / "private")
    people_config.replace("data.root", str(mine)).save(run / "config.json")
    before = sorted(path for path in (tmp_path / "home").rglob("*"))
    monkeypatch.setattr(experiment, "contents_of", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(DataError, match="was made of other images than those in"):
        experiment.images_of(run)
    with pytest.raises(SystemExit, match="was made of other images than those in"):
        cli.main(["embed", str(run), "--out", str(tmp_path / "out.npz")])
    assert sorted(path for path in (tmp_path / "home").rglob("*")) == before


def test_names_send_nothing_to_the_terminal(
    people_config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "\x1b]0;owned\x07run"
    experiment.run(people_config, run, progress=True)
    bars = capsys.readouterr().err
    assert "owned" in bars
    assert "\x1b]" not in bars
    assert "\x07" not in bars
    cli.main(["report", str(run), "--style", "console"])
    cli.main(["evaluate", str(run)])
    with locked(run, "is a test"):
        disk.tell(f"waiting for {run}")
    said = capsys.readouterr()
    assert "owned" in said.out
    assert "\x1b" not in said.out + said.err
    assert "\x07" not in said.out + said.err


# ---- numbers that cannot be

HUGE = "9223372036854775807"
NUMBERS = [
    *(f"train tiny {dial} {HUGE}" for dial in (
        "--data.height", "--data.width", "--data.train-ids", "--data.test-ids", "--data.images-per-camera",
        "--data.split", "--model.num-parts", "--loss.warmup-steps", "--train.ids-per-batch", "--train.images-per-id",
        "--train.num-epochs", "--train.steps-per-epoch", "--train.num-probes", "--train.threads", "--processes",
    )),
    f"prepare synthetic --height {HUGE}", f"generate llcm copy --train-ids {HUGE}",
    f"generate regdb copy --images-per-camera {HUGE}", f"course --epochs {HUGE}", f"app --port {HUGE}",
    f"study tiny --jobs {HUGE} --seeds 1",
]  # fmt: skip


@pytest.mark.parametrize("words", NUMBERS)
def test_numbers_that_cannot_be_are_told_at_once(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with pytest.raises(SystemExit) as told:
        cli.main(words.split())
    assert str(told.value).startswith("sa-lab: ") or told.value.code == 2, told.value
    assert time.monotonic() - started < 60
    assert not list(tmp_path.rglob("*.npy"))
