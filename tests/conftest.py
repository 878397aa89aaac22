"""Shapes in signatures are checked while the tests run; runs and caches go to a folder that is thrown away."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from types import CodeType
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores wait for each other

import beartype  # before the hook, under which Python compiles anew whatever is imported
import jaxtyping
import pytest
import sklearn  # noqa: F401
import torchvision
from browsing import browser, browser_path, lab_server, page_at  # noqa: F401
from lab_notebook import lab  # noqa: F401

if TYPE_CHECKING:
    from sa_lab.config import ExperimentConfig

_checked: set[CodeType] = set()


def checked(function: Callable) -> Callable:
    """Checks what its signature says; of a function within a function, the first: each call of the outer one makes
    another, and to wrap it takes longer than to call it."""
    code = getattr(function, "__code__", None)
    if code in _checked:
        return function
    if code:
        _checked.add(code)
    return beartype.beartype(function)


jaxtyping.install_import_hook("sa_lab", "conftest.checked")

os.environ["SA_LAB_HOME"] = tempfile.mkdtemp(prefix="sa-lab-test-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with --no-loadscope-reorder two processes end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path.name != "test_course_browser.py", -slow[item.path]))


@pytest.fixture(autouse=True)
def _alike() -> None:
    """Tiny tensors are several times faster on one thread, and bit-identical; torch draws the same in every run."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


def _devices() -> list:
    import torch

    reason = "no CUDA device: the golden numbers are checked on the CPU alone"
    return ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=reason))]


@pytest.fixture(params=_devices())
def device(request: pytest.FixtureRequest) -> str:
    """Each device there is."""
    return str(request.param)


@pytest.fixture(scope="session")
def micro_store(tmp_path_factory: pytest.TempPathFactory):
    """8 training and 4 test identities, 3 images in each of 2 cameras (1 visible, 2 infrared), 32x16 pixels.

    Each identity has a colour of its own under noise; ids are even; 2 and 4, 6 and 8 and so on form a group.
    """
    import numpy as np
    from PIL import Image

    from sa_lab.data.store import build_store
    from sa_lab.schema import Listing

    rows = [(person, camera, k) for person in range(2, 26, 2) for camera in (1, 2) for k in range(3)]
    person_ids, camera_ids, _ = np.array(rows).T
    modality = camera_ids - 1

    def read(i: int) -> Image.Image:
        colour = np.random.default_rng(int(person_ids[i])).integers(60, 190, 3)
        pixels = colour + np.random.default_rng(i).integers(-50, 50, (32, 16, 3))
        image = Image.fromarray(pixels.astype(np.uint8))
        return image.convert("L") if modality[i] else image

    listing = Listing(
        "micro",
        tuple(f"{person:02}/{camera}/{k}.png" for person, camera, k in rows),
        person_ids,
        camera_ids,
        modality,
        person_ids <= 16,
        tuple("1" for _ in rows),
        read,
        (person_ids - 2) // 4,
    )
    return build_store(listing, 32, 16, tmp_path_factory.mktemp("micro"), progress=False)


@pytest.fixture(scope="session")
def people_config(tmp_path_factory: pytest.TempPathFactory):
    """12 identities, 3 images a spectrum, as files; a network of two parts for six steps."""
    import numpy as np
    from PIL import Image

    from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig

    root = tmp_path_factory.mktemp("people")
    for person in range(12):
        for spectrum in ("visible", "infrared"):
            for k in range(3):
                rng = np.random.default_rng([person, k])
                pixels = rng.integers(0, 90, (32, 16, 3)) + np.random.default_rng(person).integers(40, 160, 3)
                image = Image.fromarray(pixels.astype(np.uint8))
                path = root / spectrum / f"p{person:02}" / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                (image.convert("L") if spectrum == "infrared" else image).save(path)
    return ExperimentConfig(
        data=DataConfig(dataset="folder", root=str(root), height=32, width=16, validation_fraction=0.25),
        model=ModelConfig(backbone="resnet18", num_parts=1, weights="random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=3, images_per_id=2, num_epochs=2, steps_per_epoch=3, threads=1, device="cpu"),
    )


def narrowed(patch: pytest.MonkeyPatch) -> None:
    """MobileNetV2 is a tenth as wide in this process: a run of a few steps takes half a second."""
    whole = torchvision.models.MobileNetV2
    patch.setattr(torchvision.models, "mobilenet_v2", lambda weights=None: whole(width_mult=0.1))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `narrowed`."""
    narrowed(monkeypatch)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps and studies compute their runs in this process, for a worker takes seconds to begin; workers are tested in
    test_workers.py and test_engines.py."""
    from sa_lab.disk import home
    from sa_lab.study import engines

    class Here(engines.Loky):
        def __init__(self, jobs: int) -> None: ...

        def submit(self, config: ExperimentConfig, own_loss: bytes) -> Future[str]:
            future: Future[str] = Future()
            before = jaxtyping.config.jaxtyping_disable
            jaxtyping.config.update("jaxtyping_disable", True)  # as in a worker
            try:
                future.set_result(engines._finish(config, own_loss, str(home())))
            except Exception as error:
                future.set_exception(error)
            finally:
                jaxtyping.config.update("jaxtyping_disable", before)
            return future

        def stop(self) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("sa_lab.study.workers.Loky", Here)


@pytest.fixture
def unchecked():
    """As outside the tests: no check but the library's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
