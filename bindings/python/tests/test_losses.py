"""The simplex and the HOC loss against golden values and finite differences."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from conftest import document

from perennial import hoc_loss, simplex_prototypes

OBJECTIVES = document("golden/hoc_objective")["cases"]
CONTRASTIVE = document("golden/hoc_contrastive")["cases"]


@pytest.mark.parametrize("vertices", ["2", "3", "5", "11"])
def test_prototypes_have_the_golden_values(vertices):
    golden = np.array(document("golden/simplex")["prototypes"][vertices])
    found = simplex_prototypes(int(vertices) - 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, golden, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 7, 99, 300])
def test_prototypes_are_a_regular_simplex(dim):
    found = simplex_prototypes(dim).astype(np.float64)
    wanted = np.where(np.eye(dim + 1, dtype=bool), 1, -1 / dim)
    np.testing.assert_allclose(found @ found.T, wanted, atol=1e-5)
    if dim == 99:
        golden = document("golden/simplex")["prototypes"]
        np.testing.assert_allclose(found[0, :5], golden["100_first_row_head"], atol=1e-6)
        np.testing.assert_allclose(found[-1, :5], golden["100_last_row_head"], atol=1e-6)


def test_simplices_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="dim: expected a whole number from 1"):
        simplex_prototypes(0)
    with pytest.raises(ValueError, match="exceeds the limit"):
        simplex_prototypes(1 << 40)
    with pytest.raises(TypeError, match="dim: expected a whole number"):
        simplex_prototypes(2.5)


@pytest.mark.parametrize("masking", ["excluded", "zeroed"])
@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_loss_has_the_golden_values(case, masking):
    found = hoc_loss(
        case["features_new"], case["features_old"], case["labels"], weight=case["lambda"], mu=case["mu"], masking=masking
    )
    golden = case["hoc"][masking]
    assert found.loss == pytest.approx(golden["loss"], abs=1e-6)
    assert found.cross_entropy == pytest.approx(case["cross_entropy"], abs=1e-6)
    np.testing.assert_allclose(found.gradient, golden["grad_new"], atol=1e-6)
    explicit = hoc_loss(
        case["features_new"], case["features_old"], case["labels"], vertices=case["vertices"], weight=case["lambda"], mu=case["mu"],
        masking=masking,
    )
    assert explicit.loss == found.loss


@pytest.mark.parametrize("masking", ["excluded", "zeroed"])
@pytest.mark.parametrize("case", CONTRASTIVE)
def test_the_contrastive_term_has_the_golden_values(case, masking):
    found = hoc_loss(case["features_new"], case["features_old"], case["labels"], weight=0.0, mu=case["mu"], masking=masking)
    golden = case["masking"][masking]
    assert found.contrastive == found.loss == pytest.approx(golden["loss"], abs=1e-9)
    np.testing.assert_allclose(found.gradient, golden["grad_new"], atol=1e-9)


@pytest.mark.parametrize("masking", ["excluded", "zeroed"])
@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_is_that_of_the_loss(seed, masking):
    random = np.random.default_rng(seed)
    count, dim = random.integers(1, 7), random.integers(2, 6)
    new, old, step = random.normal(size=(count, dim)), random.normal(size=(count, dim)), random.normal(size=(count, dim))
    labels = random.integers(0, 2, count)
    loss = lambda by: hoc_loss(new + by * step, old, labels, weight=0.4, mu=5.0, masking=masking)
    slope = (loss(1e-5).loss - loss(-1e-5).loss) / 2e-5
    assert (loss(0).gradient * step).sum() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("masking", ["excluded", "zeroed"])
def test_a_batch_of_one_class_has_no_contrastive_term(masking):
    random = np.random.default_rng(1)
    found = hoc_loss(random.normal(size=(4, 3)), random.normal(size=(4, 3)), [1, 1, 1, 1], masking=masking)
    assert found.contrastive == 0 and found.loss == 0.1 * found.cross_entropy
    assert np.isfinite(found.gradient).all()


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u8", ">i4"])
def test_labels_of_small_types_have_the_same_loss(kind):
    """A data set's file has its labels as bytes, and a simplex more than 255 dimensions."""
    random = np.random.default_rng(2)
    new, old, labels = random.normal(size=(6, 300)), random.normal(size=(6, 300)), np.array([0, 1, 99, 100, 127, 7])
    wanted, found = hoc_loss(new, old, labels), hoc_loss(new, old, labels.astype(kind))
    assert found.loss == wanted.loss and np.array_equal(found.gradient, wanted.gradient)
    vertices = labels.astype(kind)
    assert hoc_loss(new, old, labels, vertices=vertices).loss == hoc_loss(new, old, labels, vertices=labels).loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new": np.ones((3, 2))}, "features .* of the same images"),
        ({"new": np.full((2, 3), np.nan)}, "not finite"),
        ({"old": np.zeros((2, 3))}, "length 0"),
        ({"labels": [0, 1, 2]}, "one for each of the 2 rows"),
        ({"labels": [0.5, 1.5]}, "must be integers"),
        ({"labels": [0, 4]}, "vertices must be from 0 to 3; found -1 to 3"),
        ({"vertices": [0, 9]}, "found 0 to 9"),
        ({"weight": 2}, "weight 2"),
        ({"mu": float("nan")}, "mu nan"),
        ({"mu": 0}, "mu 0: use a number above 0"),
        ({"masking": "none"}, "masking 'none'"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    arguments = {"new": np.eye(2, 3), "old": np.eye(2, 3), "labels": [0, 1], **change}
    with pytest.raises(ValueError, match=message):
        hoc_loss(**arguments)


@pytest.mark.parametrize("masking", ["excluded", "zeroed"])
@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_module_for_pytorch_has_the_golden_values(case, masking):
    torch = pytest.importorskip("torch")
    path = Path(__file__).parents[1] / "examples" / "hoc_torch.py"
    spec = importlib.util.spec_from_file_location("hoc_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    new = torch.tensor(case["features_new"], dtype=torch.float64, requires_grad=True)
    old, labels = torch.tensor(case["features_old"], dtype=torch.float64), torch.tensor(case["labels"])
    loss = module.HocLoss(new.shape[1], weight=case["lambda"], mu=case["mu"], masking=masking).double()(new, old, labels)
    loss.backward()
    golden = case["hoc"][masking]
    assert loss.item() == pytest.approx(golden["loss"], abs=1e-6)
    bytes_ = module.HocLoss(new.shape[1], weight=case["lambda"], mu=case["mu"], masking=masking).double()(new, old, labels.to(torch.uint8))
    assert bytes_.item() == loss.item()
    np.testing.assert_allclose(new.grad.numpy(), golden["grad_new"], atol=1e-6)
