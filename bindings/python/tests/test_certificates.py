"""Certificates and advice against the documents that the program wrote on the same data with the same seeds."""

import os

import numpy as np
import pytest
from conftest import DATA, document, load

from perennial import Bridge, Certificate, advise, certify


def comparable(found):
    """A document without what says when and from which files."""
    return {key: value for key, value in found.items() if key not in ("created", "sources", "sha256")}


def test_a_dual_certificate_is_that_of_the_program(evaluation):
    bridge = Bridge.load(DATA / "bridge")
    relevance = np.arange(120)
    found = certify(**evaluation, relevance=relevance, bridge=bridge, route="dual", resamples=300)
    wanted = document("certificate-dual")
    assert comparable(found.to_dict()) == comparable(wanted)
    assert found.finding == wanted["finding"] and found.route == "dual" and found.weight == wanted["route"]["weight"]
    assert list(found.tasks) == ["class-like", "item-like"]
    measure = found.tasks["class-like"].measures["ncm"]
    first = wanted["tasks"][0]["measures"][0]
    assert (measure.new, measure.old, measure.margin) == (first["new"], first["old"], first["margin"])
    assert measure.interval == (first["intervals"][1]["low"], first["intervals"][1]["high"])
    assert measure.decides and measure.new_self_test == first["new_self_test"]
    # The same truth, written in other ways.
    pandas = pytest.importorskip("pandas")
    table = np.eye(120, 160, dtype=bool)
    for same in ([[row] for row in range(120)], list(range(120)), np.arange(120)[:, None], table, np.asfortranarray(table), pandas.DataFrame(table)):
        again = certify(**evaluation, relevance=same, bridge=bridge, route="dual", resamples=300)
        assert comparable(again.to_dict()) == comparable(found.to_dict())


def test_a_bridge_is_fitted_in_the_direction_of_the_route(evaluation, pairs):
    found = certify(**evaluation, fit_new=pairs[0], fit_old=pairs[1], route="mapped", seed=3, resamples=300)
    assert comparable(found.to_dict()) == comparable(document("certificate-mapped"))


def test_demands_are_those_of_the_program(evaluation):
    bridge = Bridge.load(DATA / "bridge")
    found = certify(**evaluation, bridge=bridge, index="centred", min_margin=-0.1, alpha=0.1, resamples=300)
    assert comparable(found.to_dict()) == comparable(document("certificate-centred"))
    assert found.compatible is (found.finding == "compatible")


def test_advice_is_that_of_the_program(evaluation, pairs):
    steps = []
    found = advise(
        **evaluation, fit_new=pairs[0], fit_old=pairs[1], items=2_000_000, items_per_second=300, resamples=300, progress=steps.append
    )
    wanted = document("advice")
    assert comparable(found.to_dict()) == comparable(wanted)
    task = found.tasks["class-like"]
    assert task.recommendation == wanted["tasks"][0]["recommendation"]["way"]
    assert task.recommended is not None and task.recommended.name == task.recommendation
    assert [way.name for way in task.ways] == [way["name"] for way in wanted["tasks"][0]["ways"]]
    assert any("orthogonal" in step for step in steps)


def test_arrays_are_identified_by_hash(evaluation, tmp_path):
    bridge = Bridge.load(DATA / "bridge")
    found = certify(**evaluation, bridge=bridge, resamples=10)
    sources = found.to_dict()["sources"]
    # Labels hash as the file that holds them.
    assert sources["truth"][0]["sha256"] == document("certificate-dual")["sources"]["truth"][0]["sha256"]
    assert sources["old_queries"]["rows"] == 120
    other = evaluation | {"old_queries": evaluation["old_queries"] * np.float32(2)}
    assert certify(**other, bridge=bridge, resamples=10).to_dict()["sources"]["old_queries"] != sources["old_queries"]
    found.save(tmp_path / "certificate.json")
    assert (tmp_path / "certificate.json").read_text() == found.to_json()
    # What is there is replaced as a whole, and nothing else is left.
    (tmp_path / "certificate.json").write_text("old")
    found.save(str(tmp_path / "certificate.json"))
    assert (tmp_path / "certificate.json").read_text() == found.to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]
    if os.name == "posix":
        # A link stays one.
        (tmp_path / "link.json").symlink_to("certificate.json")
        (tmp_path / "certificate.json").write_text("old")
        found.save(tmp_path / "link.json")
        assert (tmp_path / "link.json").is_symlink() and (tmp_path / "certificate.json").read_text() == found.to_json()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        found.save(tmp_path / "nowhere" / "certificate.json")
    assert isinstance(found, Certificate)


def test_inputs_that_were_fitted_on_certify_nothing(evaluation):
    bridge = Bridge.fit(evaluation["new_gallery"], evaluation["old_gallery"], "orthogonal")
    found = certify(**evaluation, bridge=bridge, resamples=10)
    assert found.finding == "cannot-tell"
    assert "were used to fit the bridge" in found.tasks["class-like"].reasons[0]


def test_without_a_bridge_nothing_leads_over(evaluation, pairs):
    with pytest.raises(ValueError, match="24 dimensions and the stored embeddings 16"):
        certify(**evaluation)
    with pytest.raises(ValueError, match="route dual needs a bridge"):
        certify(**evaluation, route="dual")
    own = certify(evaluation["old_queries"], evaluation["old_gallery"], evaluation["old_queries"], relevance=np.arange(120), resamples=10)
    assert own.route == "own" and own.tasks["item-like"].measures["recall@1"].margin == 0


def test_queries_that_are_items_do_not_find_themselves():
    gallery, new = load("old-gallery"), load("new-gallery")
    labels = (DATA / "gallery-labels.txt").read_text().splitlines()
    truth = {"query_labels": labels, "gallery_labels": labels, "resamples": 10}
    bridge = Bridge.load(DATA / "bridge")
    alone = certify(gallery, gallery, new, bridge=bridge, own=True, **truth)
    positions = certify(gallery, gallery, new, bridge=bridge, own=np.arange(160), **truth)
    itself = certify(gallery, gallery, new, bridge=bridge, **truth)
    assert comparable(alone.to_dict()) == comparable(positions.to_dict())
    recall = [one.tasks["class-like"].measures["recall@1"].old for one in (alone, itself)]
    assert recall[0] < recall[1] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"new_queries": load("new-queries")[:50]}, ValueError, "new_queries has 50 rows and old_queries has 120"),
        ({"new_gallery": load("new-gallery")[:50]}, ValueError, "new_gallery has 50 rows and old_gallery has 160"),
        ({"old_gallery": load("new-gallery")}, ValueError, "old_queries has 16 dimensions and old_gallery has 24"),
        ({"query_labels": None}, ValueError, "labels are needed for queries and gallery"),
        ({"query_labels": ["a"]}, ValueError, "query_labels: found 1 entries for 120 rows"),
        ({"relevance": [[0]]}, ValueError, "relevance: found 1 entries for 120 rows"),
        ({"relevance": [[160]] * 120}, ValueError, "position 160 is outside the gallery of 160 items"),
        ({"relevance": [[-1]] * 120}, ValueError, "-1 is no position"),
        ({"relevance": [["a"]] * 120}, TypeError, "is no position in the gallery"),
        ({"relevance": ["ab"] * 120}, TypeError, "expected a list of gallery positions"),
        ({"relevance": [[True, False]] * 120}, TypeError, "True is no position in the gallery; pass a table"),
        ({"relevance": [[np.True_]] * 120}, TypeError, "no position in the gallery; pass a table"),
        ({"relevance": [None] * 120}, TypeError, "relevance of query 0: None is no position"),
        ({"relevance": [[1.0]] * 120}, TypeError, "relevance of query 0: 1.0 is no position"),
        ({"relevance": "items"}, TypeError, "expected a list for each query"),
        ({"relevance": 3}, TypeError, "expected a list for each query"),
        ({"relevance": np.eye(120, 150, dtype=bool)}, ValueError, r"\[120, 160\], found shape \[120, 150\]"),
        ({"relevance": np.eye(160, 120, dtype=bool)}, ValueError, r"found shape \[160, 120\]"),
        ({"own": True}, ValueError, "120 queries and 160 gallery items"),
        ({"own": [3]}, ValueError, "own: found 1 entries"),
        ({"own": [500] * 120}, ValueError, "position 500 is outside"),
        ({"alpha": 0.2}, ValueError, "alpha 0.2: use 0.1, 0.05 or 0.01"),
        ({"min_margin": 2.0}, ValueError, "min-margin 2: use a difference"),
        ({"max_negative_flips": -0.5}, ValueError, "max-negative-flips -0.5: use a fraction"),
        ({"resamples": 0}, ValueError, "resamples 0: use at least 1"),
        ({"resamples": 1_000_001}, ValueError, "resamples 1000001: use at most 1000000"),
        ({"resamples": 2**62}, ValueError, "use at most 1000000"),
        ({"index": "flat"}, ValueError, "index \"flat\""),
        ({"route": "teleport"}, ValueError, "route \"teleport\""),
        ({"route": "own"}, ValueError, "uses no bridge"),
        ({"weight": 0.5}, ValueError, "weight is for dual queries"),
        ({"route": "dual", "weight": 1.5}, ValueError, "weight of a dual query is 1.5"),
        ({"bridge": "bridge"}, TypeError, "expected a Bridge, found str"),
        ({"fit_new": load("new-fit")}, ValueError, "but not both"),
        ({"bridge": None, "fit_new": load("new-fit")}, ValueError, "pass fit_new and fit_old"),
        ({"bridge": None, "fit_new": load("new-fit"), "fit_old": load("old-fit")[:9]}, ValueError, "fit_new has 200 rows and fit_old has 9"),
        ({"old_queries": load("old-queries")[:0], "new_queries": load("new-queries")[:0]}, ValueError, "old_queries: has no rows"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message, evaluation):
    arguments = {**evaluation, "bridge": Bridge.load(DATA / "bridge"), **change}
    with pytest.raises(error, match=message):
        certify(**arguments)


def test_advice_says_what_it_needs(evaluation):
    without = {key: value for key, value in evaluation.items() if "labels" not in key}
    with pytest.raises(ValueError, match="which items are right"):
        advise(**without)
    few = {**without, "old_queries": evaluation["old_queries"][:20], "new_queries": evaluation["new_queries"][:20]}
    with pytest.raises(ValueError, match="advice needs at least"):
        advise(**few, relevance=np.arange(20))
    with pytest.raises(ValueError, match="items_per_second 0: use a number above 0"):
        advise(**evaluation, items_per_second=0.0)
    with pytest.raises(ValueError, match="row 4 "):
        broken = evaluation["old_gallery"].copy()
        broken[4] = np.nan
        advise(**{**evaluation, "old_gallery": broken})


def test_an_error_of_progress_ends_the_work(evaluation, pairs):
    def stop(step):
        raise KeyboardInterrupt(step)

    with pytest.raises(KeyboardInterrupt, match="fitting"):
        advise(**evaluation, fit_new=pairs[0], fit_old=pairs[1], progress=stop)
