"""Bridges against golden values, against what the program wrote, and by their properties."""

import copy
import pickle

import numpy as np
import pytest
from conftest import DATA, document, lines, load, unit

from perennial import Bridge, DualQuery, PerennialError

GOLDEN = document("golden/bridge")
FROM, TO = np.array(GOLDEN["from_vectors"]), np.array(GOLDEN["to_vectors"])


def centred(rows, mean):
    return unit(unit(rows) - np.array(mean))


def expected(matrix):
    return unit(centred(FROM, GOLDEN["from_mean"]) @ np.array(matrix))


@pytest.mark.parametrize(
    ("kind", "matrix"),
    [
        ("orthogonal", GOLDEN["orthogonal"]["matrix"]),
        ("ridge:0.001", GOLDEN["ridge"]["matrix"]),
        ("low_rank:3,0.001", GOLDEN["low_rank"]["matrix"]),
    ],
)
def test_fits_have_the_golden_values(kind, matrix):
    bridge = Bridge.fit(FROM, TO, kind)
    np.testing.assert_allclose(bridge.transform(FROM), expected(matrix), atol=2e-6)
    assert (bridge.kind, bridge.from_dim, bridge.to_dim) == (kind, 8, 6)
    centres = centred(TO, GOLDEN["to_mean"])
    np.testing.assert_allclose(bridge.centre(TO), centres, atol=2e-6)
    if kind != "low_rank:3,0.001":
        cosines = (bridge.transform(FROM) * centres).sum(axis=1)
        assert cosines.mean() == pytest.approx(GOLDEN[kind.split(":")[0]]["mean_cosine"], abs=1e-5)


def test_labels_alone_have_the_golden_values():
    labels = GOLDEN["labels_only"]["labels"]
    bridge = Bridge.fit_labels(FROM, labels, TO, labels)
    np.testing.assert_allclose(bridge.transform(FROM), expected(GOLDEN["labels_only"]["matrix"]), atol=5e-6)
    assert bridge.fit_record["pairs"] == 10 and bridge.fit_record["matched"] == "label"
    with pytest.raises(ValueError, match="classes have embeddings on both sides"):
        Bridge.fit_labels(FROM, labels, TO, [f"other {label}" for label in labels])
    with pytest.raises(ValueError, match="3 labels for 60 rows"):
        Bridge.fit_labels(FROM, labels[:3], TO, labels)
    with pytest.raises(ValueError, match=r"old_labels: expected shape \[n\], found \[\]"):
        Bridge.fit_labels(FROM, labels, TO, None)


def test_a_fit_is_the_one_of_the_program(pairs):
    new, old = pairs
    written = Bridge.load(DATA / "bridge")
    fitted = Bridge.fit(new, old, labels=lines("fit-labels"))
    assert fitted.sha256 == written.sha256
    assert fitted == written and hash(fitted) == hash(written)
    assert fitted.dual_weight == written.dual_weight == written.fit_record["dual_weight"]
    for key in ("pairs", "trials", "dual_weight", "matched"):
        assert fitted.fit_record[key] == written.fit_record[key], key


def test_what_the_program_maps_is_mapped_alike():
    bridge = Bridge.load(DATA / "bridge")
    np.testing.assert_array_equal(bridge.transform(load("new-queries")), load("bridged-queries"))
    dual = DualQuery(bridge).transform(load("old-queries"), load("new-queries"))
    np.testing.assert_array_equal(dual, load("dual-queries"))


def test_a_saved_bridge_is_read_again(tmp_path, pairs):
    bridge = Bridge.fit(*pairs, "ridge:0.01", new_space="new", old_space="old", ids=[f"item {row}" for row in range(200)])
    bridge.save(tmp_path / "bridge")
    again = Bridge.load(tmp_path / "bridge")
    assert again == bridge
    assert again.spaces == [{"dim": 24, "id": "new"}, {"dim": 16, "id": "old"}]
    for copied in (pickle.loads(pickle.dumps(bridge)), copy.deepcopy(bridge), copy.copy(bridge)):
        assert copied == bridge and copied.spaces == bridge.spaces and copied.fit_record == bridge.fit_record
    dual = pickle.loads(pickle.dumps(DualQuery(bridge, 0.3, index="centred")))
    assert (dual.bridge, dual.weight, dual.index) == (bridge, 0.3, "centred")
    assert sorted(path.name for path in (tmp_path / "bridge").iterdir()) == ["bridge.toml", "weights.safetensors"]
    bridge.save(tmp_path / "bridge")
    assert repr(bridge) == "<Bridge ridge:0.01, 24 -> 16 dimensions, 200 pairs>"


def test_ids_have_all_their_bits(pairs):
    high = np.arange(200, dtype=np.uint64) + np.uint64(2**63)
    assert Bridge.fit(*pairs, "orthogonal", ids=high) == Bridge.fit(*pairs, "orthogonal", ids=[int(one) for one in high])


class Named(Bridge):
    """A kind of bridge of a user."""


def test_kinds_of_bridges_stay_what_they_are(pairs):
    bridge = Named.fit(pairs[0][:, :16], pairs[1], "orthogonal")
    for other in (bridge.inverse(), bridge.then(bridge), pickle.loads(pickle.dumps(bridge))):
        assert type(other) is Named


def test_damaged_and_foreign_folders_are_refused(tmp_path, pairs):
    with pytest.raises(FileNotFoundError, match="nothing"):
        Bridge.load(tmp_path / "nothing")
    bridge = Bridge.fit(*pairs, "orthogonal")
    bridge.save(tmp_path / "bridge")
    weights = tmp_path / "bridge" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PerennialError, match="SHA-256 differs"):
        Bridge.load(tmp_path / "bridge")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(PerennialError, match="not overwritten"):
        bridge.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_orders_give_the_same(dtype, order, pairs):
    new, old = (np.round(side * 8) / 8 for side in pairs)
    reference = Bridge.fit(new.astype(np.float32), old.astype(np.float32), "orthogonal")
    given = [np.asarray(side.astype(dtype), order=order) for side in (new, old)]
    bridge = Bridge.fit(*given, "orthogonal")
    assert bridge.sha256 == reference.sha256
    np.testing.assert_array_equal(bridge.transform(given[0]), reference.transform(new))
    # Every second row, every second column, and rows backwards.
    np.testing.assert_array_equal(bridge.transform(given[0][::-2]), reference.transform(new)[::-2])
    wide = np.repeat(given[0], 2, axis=1)
    np.testing.assert_array_equal(bridge.transform(wide[:, ::2]), reference.transform(new))


def test_contiguous_float32_is_not_copied():
    from perennial.arguments import rows

    x = np.ones((3, 4), np.float32)
    assert rows("x", x) is x
    x.flags.writeable = False
    assert rows("x", x) is x
    assert rows("x", x.T) is not x
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 4)
    np.testing.assert_array_equal(rows("x", unaligned), x)


def test_rows_do_not_depend_on_one_another(pairs):
    bridge = Bridge.fit(*pairs, "ridge:0.001")
    mapped = bridge.transform(pairs[0])
    assert mapped.dtype == np.float32 and mapped.shape == (200, 16) and mapped.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    for row in (0, 7, 199):
        np.testing.assert_array_equal(bridge.transform(pairs[0][row : row + 1])[0], mapped[row])
    # The length of a row says nothing.
    np.testing.assert_allclose(bridge.transform(pairs[0] * 1024), mapped, atol=1e-6)
    assert bridge.transform(np.empty((0, 24), np.float32)).shape == (0, 16)


def test_dual_queries_lie_between_both_queries(pairs):
    new, old = load("new-queries"), load("old-queries")
    bridge = Bridge.fit(*pairs, "orthogonal")
    for index, own in (("raw", unit(old)), ("centred", bridge.centre(old))):
        for weight in (0.0, 0.3, 1.0):
            dual = DualQuery(bridge, weight, index=index).transform(old, new)
            wanted = unit(weight * own + (1 - weight) * bridge.transform(new))
            np.testing.assert_allclose(dual, wanted, atol=2e-6)
    assert DualQuery(bridge).weight == 0.5


def test_inverse_and_chain_lead_back(pairs):
    new, old = pairs
    square = Bridge.fit(new[:, :16], old, "orthogonal")
    back = square.then(square.inverse())
    assert (back.from_dim, back.to_dim) == (16, 16)
    np.testing.assert_allclose(back.transform(new[:, :16]), centred(new[:, :16], unit(new[:, :16]).mean(axis=0)), atol=1e-5)


def test_the_wrong_direction_is_noticed(pairs):
    new, old = pairs
    bridge = Bridge.fit(new[:, :16], old, "orthogonal")
    with pytest.raises(ValueError, match="look like embeddings of"):
        bridge.transform(old)
    assert bridge.transform(old, check_direction=False).shape == (200, 16)


def bad(at, value):
    rows = load("new-fit")
    rows[at] = value
    return rows


@pytest.mark.parametrize(
    ("new", "error", "message"),
    [
        (bad((3, 2), np.nan), ValueError, "^new: row 3 holds a value that is not finite"),
        (bad((5, 0), np.inf), ValueError, "row 5 holds a value that is not finite"),
        (bad(7, 0.0), ValueError, "^new: row 7 has length 0"),
        (load("new-fit").astype(np.float64) * 1e300, ValueError, "row 0 holds a value that is not finite"),
        (load("new-fit")[:100], ValueError, "100 rows of new cannot be matched with 200 rows of old"),
        (load("new-fit")[0], ValueError, r"new: expected shape \[n, dim\], found \[24\]; for a single vector pass x\[None, :\]"),
        (load("new-fit")[None], ValueError, r"found \[1, 200, 24\]"),
        (np.empty((200, 0)), ValueError, "dim of at least 1"),
        (np.empty((0, 24)), ValueError, "^0 rows of new"),
        (load("new-fit").astype(object), TypeError, "new: expected numbers, found dtype object"),
        (load("new-fit") > 0, TypeError, "found dtype bool"),
        (load("new-fit") + 0j, TypeError, "found dtype complex64"),
        ([["a", "b"]], TypeError, "found dtype <U1"),
        ([[1.0, 2.0], [1.0]], ValueError, "^new: rows of different lengths"),
        (np.ma.masked_invalid(load("new-fit")), TypeError, "masked array"),
    ],
)
def test_bad_rows_are_named(new, error, message, pairs):
    with pytest.raises(error, match=message):
        Bridge.fit(new, pairs[1], "orthogonal")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "magic"}, ValueError, "magic"),
        ({"kind": "ridge:-1"}, ValueError, "penalty must be"),
        ({"kind": "identity"}, ValueError, "needs equal dimensions"),
        ({"kind": "auto", "centred": False}, ValueError, "needs a kind"),
        ({"labels": [1, 2]}, ValueError, "labels: found 2 entries for 200 rows"),
        ({"labels": [1.5] * 200}, TypeError, "labels: 1.5 is neither an integer nor a text"),
        ({"labels": [""] * 200}, ValueError, "is empty"),
        ({"labels": [2**70] * 200}, ValueError, "is no integer of 64 bits"),
        ({"labels": np.full(200, 2**63, np.uint64)}, ValueError, "is no integer of 64 bits"),
        ({"labels": ["\ud800"] * 200}, ValueError, "labels: .*is no character of a text"),
        ({"labels": np.array(["\ud800"] * 200)}, ValueError, "labels: .*is no character of a text"),
        ({"ids": ["a"]}, ValueError, "ids: found 1 entries"),
        ({"ids": [-1] * 200}, ValueError, "ids: -1 is no integer of 64 bits without a sign"),
        ({"ids": [2**64] * 200}, ValueError, "ids: .* without a sign"),
        ({"seed": -1}, ValueError, "seed: expected a whole number"),
        ({"seed": "x"}, TypeError, "seed: expected a whole number"),
        ({"new_space": "a\nb"}, ValueError, "name"),
    ],
)
def test_bad_settings_are_named(arguments, error, message, pairs):
    with pytest.raises(error, match=message):
        Bridge.fit(*pairs, **{"kind": "orthogonal", **arguments})


def test_other_calls_name_what_is_wrong(pairs):
    bridge = Bridge.fit(*pairs, "orthogonal")
    with pytest.raises(ValueError, match="x: the vectors have 16 dimensions, but 24 are needed"):
        bridge.transform(pairs[1])
    with pytest.raises(ValueError, match="^x: row 3 holds a value that is not finite"):
        bridge.transform(bad((3, 2), np.nan))
    with pytest.raises(ValueError, match="^old_queries: row 1 has length 0"):
        DualQuery(bridge).transform(pairs[1][:2] * [[1], [0]], pairs[0][:2])
    with pytest.raises(ValueError, match="^x: row 0 has length 0"):
        bridge.centre(np.zeros((1, 16)))
    with pytest.raises(ValueError, match="too few to choose"):
        Bridge.fit(pairs[0][:99], pairs[1][:99])
    with pytest.raises(ValueError, match="weight 1.5"):
        DualQuery(bridge, 1.5)
    with pytest.raises(ValueError, match="weight nan"):
        DualQuery(bridge, float("nan"))
    with pytest.raises(ValueError, match="index 'flat'"):
        DualQuery(bridge, index="flat")
    with pytest.raises(ValueError, match="3 rows of new_queries cannot be matched with 2 rows of old_queries"):
        DualQuery(bridge).transform(pairs[1][:2], pairs[0][:3])
    with pytest.raises(ValueError, match="cannot be chained|16 dimensions"):
        bridge.then(bridge)
    with pytest.raises(TypeError, match="following: expected a Bridge, found str"):
        bridge.then("bridge")
    with pytest.raises(TypeError, match="bridge: expected a Bridge, found PosixPath|WindowsPath"):
        DualQuery(DATA / "bridge")
    with pytest.raises(TypeError, match="comes from Bridge.fit"):
        Bridge()
