"""The homework's six runs: what is trained, on what, and the figures that come out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import mnist
from benchmarks.homework import command, scores, study
from benchmarks.homework.parts import PARTS, printed
from manual import nn, training

SMALL = replace(study.SETTINGS, hidden=(6,), lr=0.05, epochs=3)
PLAIN, STOPS, NORMAL, HE, GLOROT, TEN = PARTS


def trained(data, part, settings=SMALL, digits=(5, 6)):
    images = study.choose(data, part, digits, settings.dtype, settings.seed)
    pair = study.pair_of(part, settings, 784)
    return study.study(part, pair, images, settings), pair


def test_the_parts_are_the_homeworks():
    assert [(p.name, p.initial, p.stops, p.binary) for p in PARTS] == [
        ("no early stopping", "default", False, True),
        ("early stopping", "default", True, True),
        ("random normal", "normal", True, True),
        ("He normal", "he", True, True),
        ("Glorot uniform", "glorot", True, True),
        ("ten digits", "default", True, False),
    ]
    assert [p.homework.accuracy for p in PARTS] == [0.9869, 0.98815, 0.9821, 0.9848, 0.9863, 0.97]
    assert [p.homework.loss for p in PARTS] == [0.0448, 0.0507, 0.056, 0.048, 0.046, 0.112]
    for part in PARTS[1:]:  # F1 is of precision and recall, each of four places
        p, r = part.homework.precision, part.homework.recall
        assert abs(part.homework.f1 - 2 * p * r / (p + r)) < 1.01e-4
    assert PLAIN.homework[2:] == (None, None, None)


def test_the_homeworks_figures_stand_only_beside_its_digits():
    assert printed(STOPS, (5, 6)) == STOPS.homework
    assert printed(STOPS, (6, 5)) == (0.98815, 0.0507, None, None, None)
    assert printed(STOPS, (5, 7)) is None
    assert printed(TEN, (5, 7)) == TEN.homework


def test_the_homeworks_precision_is_of_its_second_digit():
    """Accuracy, precision and recall together give the share of the images that are positive:
    that of the sixes among MNIST's test images, not that of the fives."""
    fives, sixes = 892, 958
    for part in PARTS[1:5]:
        accuracy, _, precision, recall, _ = part.homework
        wrong = (1 - recall) + recall * (1 / precision - 1)  # for each positive image
        # Half a unit in the last place of each of the three, over wrong >= 0.02.
        assert abs((1 - accuracy) / wrong - sixes / (fives + sixes)) < 3 * 0.5e-4 / 0.02


def test_images_are_chosen_split_and_named(data):
    images = study.choose(data, STOPS, (6, 5), "float32", 3)
    n = int(np.isin(data.train_y, (5, 6)).sum())
    assert len(images.validation_x) == math.ceil(n / 10)
    assert len(images.train_x) + len(images.validation_x) == n
    both = np.concatenate([images.train_x, images.validation_x])
    own = data.train_x[np.isin(data.train_y, (5, 6))]
    assert sorted(map(bytes, both)) == sorted(map(bytes, own))  # each once
    assert images.train_y.dtype == np.float32
    assert images.train_y.shape == (len(images.train_x), 1)
    assert images.names == (6, 5)
    chosen = data.test_y[np.isin(data.test_y, (5, 6))]
    np.testing.assert_array_equal(images.test_y[:, 0] == 1, chosen == 5)
    for x, y in ((images.train_x, images.train_y), (images.validation_x, images.validation_y)):
        where = {bytes(image): digit for image, digit in zip(data.train_x, data.train_y)}  # noqa: B905
        assert [where[bytes(image)] == 5 for image in x] == list(y[:, 0] == 1)
    other = study.choose(data, STOPS, (6, 5), "float32", 4)
    assert not np.array_equal(other.train_x, images.train_x)
    again = study.choose(data, STOPS, (6, 5), "float32", 3)
    assert np.array_equal(again.train_x, images.train_x)


def test_all_ten_digits(data):
    images = study.choose(data, TEN, (5, 6), "float64", 0)
    assert len(images.train_x) == 900
    assert images.names == tuple(range(10))
    assert images.test_y is data.test_y
    assert images.train_y.dtype == np.int64


def test_initial_weights():
    """3σ of a standard deviation of n draws is 3/√(2n) of it, 0.5 % for the first layer."""
    settings = replace(SMALL, hidden=(256, 128))
    pairs = {part: study.pair_of(part, settings, 784) for part in PARTS}
    for part in (NORMAL, HE, GLOROT):
        net = pairs[part].net
        assert not net[0].bias.data.any()
        assert not net[4].bias.data.any()
    for layer, (fan_in, fan_out) in {0: (784, 256), 2: (256, 128)}.items():
        slack = 3 / math.sqrt(2 * fan_in * fan_out)
        weights = {part: pair.net[layer].weight.data for part, pair in pairs.items()}
        assert weights[NORMAL].std() == pytest.approx(0.05, rel=slack)
        assert weights[HE].std() == pytest.approx(math.sqrt(2 / fan_in), rel=slack)
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.999 * bound < np.abs(weights[GLOROT]).max() <= bound
        assert weights[GLOROT].std() == pytest.approx(bound / math.sqrt(3), rel=slack)
        default = 1 / math.sqrt(fan_in)
        assert 0.999 * default < np.abs(weights[STOPS]).max() <= default
        assert np.array_equal(weights[STOPS], weights[PLAIN])
    assert pairs[STOPS].net[0].bias.data.any()
    assert [len(pairs[p].net[4].bias.data) for p in (STOPS, TEN)] == [1, 10]
    assert [type(pairs[p].criterion) for p in (STOPS, TEN)] == [
        nn.BCEWithLogitsLoss,
        nn.CrossEntropyLoss,
    ]


def test_what_is_said_of_logits():
    assert list(scores.decided(np.array([[-1.0], [0.0], [1e-9]]))) == [0, 0, 1]
    assert list(scores.decided(np.array([[0, 3, 1], [5, 3, 1]]))) == [1, 0]


def test_scores_by_their_definitions():
    rng = np.random.default_rng(0)
    for classes in (2, 10):
        true, said = rng.integers(classes, size=(2, 400))
        said[::2] = true[::2]
        matrix = scores.confusion(said, true, classes)
        assert matrix[1, 0] == ((true == 1) & (said == 0)).sum()
        hits = matrix.diagonal()
        p, r = hits / matrix.sum(axis=0), hits / matrix.sum(axis=1)
        f1 = 2 * p * r / (p + r)
        got = scores.scores(said, true, binary=classes == 2)
        assert got["test_accuracy"] == pytest.approx(hits.sum() / 400, rel=1e-12)
        for name, each in (("precision", p), ("recall", r), ("f1", f1)):
            expected = each[1] if classes == 2 else each.mean()
            assert got[name] == pytest.approx(expected, rel=1e-12)


def test_a_class_that_is_never_said_counts_as_0():
    nothing = scores.scores(np.zeros(4, int), np.array([0, 1, 0, 1]), binary=True)
    assert nothing == {"test_accuracy": 0.5, "precision": 0, "recall": 0, "f1": 0}


def test_both_sides_train_the_same_and_report_what_they_came_to(data):
    result, pair = trained(data, STOPS)
    manual, torch = result.rows
    assert (manual["side"], torch["side"]) == ("manual", "torch")
    assert 0 < manual["max_weight_difference"] == torch["max_weight_difference"] < 1e-12
    assert manual["weights"] != torch["weights"]
    for one, two in zip(*(side.history.epochs for side in result.sides.values()), strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-12)
        assert one.validation_loss == pytest.approx(two.validation_loss, rel=1e-12)
    logits = training.predict(pair.net, result.images.test_x, mnist.SCALE)
    assert manual["test_loss"] == float(nn.BCEWithLogitsLoss()(logits, result.images.test_y))
    right = (logits > 0) == (result.images.test_y == 1)
    assert manual["test_accuracy"] == right.mean()
    assert 0.8 < manual["test_accuracy"] < 1
    matrix = result.confusion("manual")
    assert matrix.sum() == len(right)
    assert matrix.trace() == right.sum()
    assert manual["recall"] == matrix[1, 1] / matrix[1].sum()
    epochs = result.sides["manual"].history.epochs
    assert manual["seconds"] == sum(epoch.seconds for epoch in epochs)
    assert manual["epochs_run"] == 3
    assert (
        manual["train_images"] + manual["validation_images"] == np.isin(data.train_y, (5, 6)).sum()
    )
    assert manual["test_images"] == 200
    assert (manual["digits"], manual["hidden"], manual["initial"]) == ("5-6", "6", "default")
    for column in ("machine", "threads", "blas", "numpy", "torch", "python", "seed", "lr"):
        assert manual[column] not in (None, ""), column


def test_early_stopping_is_the_only_difference_between_the_first_two(data):
    """With a patience of 1 and a learning rate that is too large it stops before the last epoch."""
    settings = replace(SMALL, lr=0.4, epochs=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "PATIENCE", 1)
        (plain, _), (stopped, pair) = (trained(data, p, settings) for p in (PLAIN, STOPS))
    for side in ("manual", "torch"):
        every, some = plain.sides[side].history, stopped.sides[side].history
        assert (every.stopped, some.stopped) == ("epochs", "early stopping")
        assert (len(every.epochs), every.best) == (12, 12)
        assert len(some.epochs) == some.best + 1 < 12
        for one, two in zip(every.epochs, some.epochs, strict=False):
            assert one[:3] == two[:3]  # bit by bit; not the seconds
    row = stopped.rows[0]
    best = stopped.sides["manual"].history.epochs[row["best_epoch"] - 1]
    assert (row["train_loss"], row["validation_loss"]) == best[1:3]
    images = stopped.images
    restored = pair.criterion(
        training.predict(pair.net, images.validation_x, mnist.SCALE), images.validation_y
    )
    assert row["validation_loss"] == float(restored)
    assert (plain.rows[0]["patience"], row["patience"]) == (None, 1)


def test_one_seed_gives_one_result_bit_by_bit(data):
    settings = replace(SMALL, epochs=1)
    (one, _), (two, _) = (trained(data, STOPS, settings) for _ in range(2))
    times = {"seconds", "samples_per_second"}
    for a, b in zip(one.rows, two.rows, strict=True):
        assert {k: v for k, v in a.items() if k not in times} == {
            k: v for k, v in b.items() if k not in times
        }
    other, _ = trained(data, STOPS, replace(settings, seed=1))
    assert other.rows[0]["weights"] != one.rows[0]["weights"]


def test_the_digest_is_of_every_bit():
    weights = {"a": np.zeros((2, 2)), "b": np.ones(3)}
    same = {"a": np.zeros((2, 2)).T, "b": np.ones(3)}
    assert study.digest(weights) == study.digest(same)
    assert study.digest(weights) != study.digest({**weights, "b": np.nextafter(np.ones(3), 2)})
    assert study.digest(weights) != study.digest({**weights, "a": -np.zeros((2, 2))})


def test_a_run_that_diverges_says_where(data, monkeypatch):
    fit = study.torch_ref.training.fit

    def poisoned(net, *args, **options):
        net[0].weight.data[0, 0] = math.nan
        return fit(net, *args, **options)

    monkeypatch.setattr(study.torch_ref.training, "fit", poisoned)
    with pytest.raises(FloatingPointError, match=r"^ten digits, torch: the loss became nan in epo"):
        trained(data, TEN)


def test_every_pair_is_proven_before_it_is_trained(data, monkeypatch):
    """The proof is of the pair that is trained: its network, loss, optimizer and batch size."""
    proven, log = [], []
    prove, begin = command.prove, command.study

    def proving(pair, images, settings):
        log.append("proof")
        proven.append((pair, images, settings))
        return prove(pair, images, settings)

    def training_of(part, pair, images, settings, *others):
        log.append("training")
        assert proven[-1] == (pair, images, settings)
        return begin(part, pair, images, settings, *others)

    monkeypatch.setattr(command, "prove", proving)
    monkeypatch.setattr(command, "study", training_of)
    asked = command.Study(replace(SMALL, epochs=1), data, (5, 6))
    runs = list(command.trainings(asked, lambda what: None))
    assert log == ["proof", "training"] * 6
    assert [run.part for run in runs] == list(PARTS)
    assert all(0 < row["proof_used"] <= 1 for run in runs for row in run.rows)


@pytest.mark.parametrize("layer", [nn.ReLU, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss])
def test_a_pair_that_differs_is_not_trained(data, monkeypatch, layer):
    backward = layer.backward
    monkeypatch.setattr(layer, "backward", lambda self, *dy: 1.001 * backward(self, *dy))
    part = TEN if layer is nn.CrossEntropyLoss else STOPS
    monkeypatch.setattr(command, "PARTS", [part])
    monkeypatch.setattr(command, "study", lambda *a: pytest.fail("trained"))
    asked = command.Study(SMALL, data, (5, 6))
    with pytest.raises(command.NotProven, match=rf"{part.name}, seed 0\n(.|\n)*manual"):
        list(command.trainings(asked, lambda what: None))
