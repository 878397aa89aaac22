"""Loose pictures: found, described once, ranked exactly, and explained place by place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa_lab import cli, experiment, plots, ranking
from sa_lab.config import ExperimentConfig
from sa_lab.evaluation.search import FULL, nearest, similarity
from sa_lab.reporting import ranks
from sa_lab.runs import Run
from sa_lab.schema import DataError, Embeddings, Modality


@pytest.fixture(scope="module")
def run(people_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = people_config.replace("model.num_parts", 2)
    return experiment.run(config, tmp_path_factory.mktemp("run"), progress=False)


@pytest.fixture(scope="module")
def places(people_config: ExperimentConfig) -> tuple[Path, Path]:
    """A query of a person, and the visible folder."""
    root = Path(str(people_config.data.root))
    return root / "infrared" / "p03" / "0.png", root / "visible"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))


def test_who_comes_back_is_what_the_score_says(run: Run, places: tuple[Path, Path]) -> None:
    found = run.rank(*places, k=5)
    assert isinstance(found, ranking.Ranking)
    assert found.query.store.paths == ("0.png",)
    assert len(found.gallery.store) == 36
    sides = (found.query.embeddings, found.gallery.embeddings)
    both = [np.asarray(getattr(one, name), np.float32) for name in ("part_features", "embeddings") for one in sides]
    scores = sum(np.einsum("pd,gpd->g", both[i][0], both[i + 1]) for i in (0, 2)) / FULL
    order = np.argsort(-scores, kind="stable")[:5]
    assert found.best[0].tolist() == order.tolist()
    np.testing.assert_allclose(found.similarity[0], scores[order], atol=1e-5)
    np.testing.assert_allclose(found.parts.sum(2), found.similarity, atol=1e-5)
    assert found.names(0)[0] == (found.gallery.store.paths[order[0]], pytest.approx(scores[order[0]], abs=1e-5))
    assert found.names(0)[0][0].count("/") == 1


def test_an_image_and_itself_have_the_similarity_1(run: Run, places: tuple[Path, Path]) -> None:
    """If its flip is alike: descriptors are sums over both."""
    one = ranking.pictures(run.folder, places[0], Modality.INFRARED, progress=False).embeddings
    own = similarity(one, np.array([0]), np.array([0]))[0, 0] / FULL
    assert 0.25 < own <= 1 + 1e-6


@pytest.mark.parametrize("place", [0, 4])
def test_each_place_adds_what_it_adds(run: Run, places: tuple[Path, Path], place: int) -> None:
    found = run.rank(*places, k=5)
    why = found.why(0, place)
    np.testing.assert_allclose(why.parts, found.parts[0, place], atol=1e-5)
    asked, _ = why.shares
    for shares in why.shares:
        assert shares.ndim == 2
        assert shares.sum() == pytest.approx(float(found.similarity[0, place]), abs=1e-3), "kept as float16"
    bands = asked.reshape(run.config.model.num_parts, -1).sum(1)  # of this network no two share a row
    np.testing.assert_allclose(bands, found.parts[0, place], atol=1e-3)


def test_images_of_a_run_are_explained_as_well(run: Run) -> None:
    tested, store = run.embeddings, experiment.images_of(run.folder)
    model = experiment.load_model(run.folder)[0]
    why = ranking.explained(model, store, tested, 0, 3)
    assert why.parts.sum() == pytest.approx(similarity(tested, np.array([0]), np.array([3]))[0, 0] / FULL, abs=1e-5)
    np.testing.assert_allclose([one.sum() for one in why.shares], why.parts.sum(), atol=2e-3)
    place = store.paths.index(tested.paths[3])
    np.testing.assert_array_equal(why.images[1], store.images[place].numpy())


def test_a_gallery_is_described_once(run: Run, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = run.rank(*places)
    monkeypatch.setattr(ranking, "embed", lambda *_, **__: pytest.fail("described again"))
    again = run.rank(*places)
    np.testing.assert_array_equal(first.best, again.best)


def test_damaged_descriptors_are_made_again(run: Run, places: tuple[Path, Path], tmp_path: Path) -> None:
    first = run.rank(*places)
    for file in (tmp_path / "home" / "descriptors").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(first.similarity, run.rank(*places).similarity)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_nearest_is_exact_across_blocks(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the block; of equal scores the earlier one first."""
    rng = np.random.default_rng(0)
    ids = np.zeros(30, dtype=np.int64)

    def some(count: int) -> Embeddings:
        values = rng.integers(-2, 3, (2, count, 2, 3)).astype(np.float32)
        return Embeddings(*values, *(np.zeros(count, np.int64),) * 3, tuple(map(str, range(count))))

    query, gallery = some(4), some(len(ids))
    scores = sum(
        np.einsum("qpd,gpd->qg", one, other)
        for one, other in zip(query.descriptors.values(), gallery.descriptors.values(), strict=True)
    )
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    for block in (1, 7, 30, 256):
        monkeypatch.setattr("sa_lab.evaluation.search._BLOCK", block)
        best, values = nearest(query, gallery, k)
        np.testing.assert_array_equal(best, expected)
        np.testing.assert_allclose(values, np.take_along_axis(scores, expected, 1) / FULL)


def test_the_command_prints_names_and_writes_page_and_sheet(
    run: Run, places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "who.html"
    cli.main(["rank", str(run.folder), *map(str, places), "-k", "4", "--out", str(out)])
    printed = capsys.readouterr().out
    assert len(re.findall(r"p\d\d/\d\.png", printed)) == 4
    text = out.read_text(encoding="utf-8")
    assert text.count('alt="p') == 4 + 2 * 4, "each is explained"
    assert f"part {run.config.model.num_parts}" in text
    without = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]', without), "no request leaves it"
    with Image.open(tmp_path / "who.png") as sheet:
        assert sheet.width > 5 * 84


def test_a_name_is_spelled_without_accents_where_no_font_has_them() -> None:
    assert ranks._plain("zoë/łódź.png") == "zoe/?odz.png"


def test_shares_are_painted_by_their_sign() -> None:
    pixels = np.full((3, 8, 4), 100, np.uint8)
    shares = np.zeros((2, 1), np.float32)
    shares[0], shares[1] = 1.0, -1.0
    shown = plots.painted(pixels, shares)
    assert shown[0, 0, 0] > shown[2, 0, 0], "red above"
    assert shown[0, -1, 0] < shown[2, -1, 0], "blue below"
    assert (plots.painted(pixels, 0 * shares) == 100).all()


def test_loose_pictures_are_embedded(run: Run, places: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "x.npz"
    command = ["embed", str(run.folder), "--images", str(places[1]), "--out", str(out)]
    cli.main([*command, "--modality", "visible", "--dtype", "float32"])
    assert "36 descriptors in" in capsys.readouterr().out
    found = Embeddings.load(out)
    assert set(found.person_ids.tolist()) == {-1}
    assert set(found.modality.tolist()) == {0}
    with pytest.raises(SystemExit, match="of 36 of 36 images nobody says who they are"):
        cli.main(["evaluate", str(out), "--out", str(tmp_path / "evaluated")])
    for wrong in ([], ["--modality", "visible", "--part", "test"]):
        with pytest.raises(SystemExit, match="expected --modality with it, and no data set"):
            cli.main([*command, *wrong])


def test_a_figure_shows_both_images_and_each_part(run: Run, places: tuple[Path, Path]) -> None:
    found = run.rank(*places, k=1)
    figure = plots.similarity_map(*found.why(0, 0), names=("query", "first"), title="Why")
    why = found.why(0, 0)
    assert [one.source for one in figure.layout.images[::2]] == [plots.data_uri(image) for image in why.images]
    (bars,) = figure.data
    np.testing.assert_allclose(bars.x, found.parts[0, 0], atol=1e-5)
    assert figure.layout.xaxis5.title.text == "share of the similarity"


def test_what_cannot_be_ranked_is_said(run: Run, places: tuple[Path, Path], tmp_path: Path) -> None:
    query, gallery = places
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    for asked, searched, told in (
        (tmp_path / "nobody.png", gallery, "no such file or folder; expected pictures"),
        (query, tmp_path / "empty", r"no picture; expected files \*\.bmp"),
        (tmp_path / "notes.txt", gallery, r"(?s)1 images cannot be read.*no image in one of the formats"),
    ):
        with pytest.raises(DataError, match=told):
            run.rank(asked, searched)
    with pytest.raises(ValueError, match="k is 0, expected at least 1"):
        run.rank(query, gallery, k=0)
    with pytest.raises(SystemExit, match="one place is given, expected a query and then the folder"):
        cli.main(["rank", str(run.folder), str(query)])


def test_a_sheet_replaces_no_picture_that_is_asked_or_searched(run: Run, places: tuple[Path, Path]) -> None:
    query, gallery = places
    searched = next(gallery.rglob("*.png"))
    for picture in (query, searched):
        before = picture.read_bytes()
        with pytest.raises(SystemExit, match="the contact sheet would replace the picture"):
            cli.main(["rank", str(run.folder), str(query), str(gallery), "--out", str(picture.with_suffix(".html"))])
        assert picture.read_bytes() == before


def test_pictures_of_one_name_keep_their_places(run: Run, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((32, 16), 90, np.uint8)).save(tmp_path / folder / "same.png")
    found = ranking.pictures(run.folder, [tmp_path / "a", tmp_path / "b", tmp_path / "a"], Modality.INFRARED, False)
    assert found.store.paths == tuple((tmp_path / one / "same.png").as_posix() for one in ("a", "b"))
    assert found.image(0).shape == (3, 32, 16)
    with pytest.raises(ValueError, match="of 2 of 2 images nobody says who they are"):
        experiment.evaluate_all(found.embeddings, experiment.protocols_of("", None, False))
