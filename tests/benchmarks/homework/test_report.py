"""What is told of the study: tables, answers over several seeds, pictures, the page, the CSV."""

import base64
import json
import re
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from benchmarks.homework import command, page, pictures, spread, study, table
from benchmarks.homework.parts import PARTS
from manual import nn


@pytest.fixture(scope="module")
def runs(data, small):
    """All six, small."""
    return list(command.trainings(command.Study(small, data, (5, 6)), lambda what: None))


@pytest.fixture(scope="module")
def rows(runs):
    return [row for run in runs for row in run.rows]


def printed(shown):
    console = Console(width=80, file=StringIO())
    console.print(shown)
    return console.file.getvalue()


def test_the_table_stands_beside_the_homeworks_figures_in_80_columns(rows):
    text = printed(table.runs_table(rows, (5, 6)))
    assert "…" not in text
    lines = [line.split() for line in text.splitlines() if line.strip()]
    at = lines.index(["early", "stopping"])
    assert lines[at + 1] == ["homework", "98.815", "0.0507", "98.37", "99.35", "98.86"]
    mine = rows[2]
    shown = [f"{100 * mine[k]:.2f}" for k in ("test_accuracy", "precision", "recall", "f1")]
    assert lines[at + 2][:6] == ["manual", shown[0], f"{mine['test_loss']:.4f}", *shown[1:]]
    assert lines[at + 2][6] == "2/2"
    assert len(lines[at + 2]) == 9  # with seconds, and "apart"
    assert len(lines[at + 3]) == 8  # "apart" stands once
    assert text.count("homework") == 6
    assert printed(table.runs_table(rows, (1, 2))).count("98.") == 0


def test_an_accuracy_below_the_homeworks_is_marked():
    figures = PARTS[1].homework
    full = {"dataset": "mnist", "test_accuracy": 0.98815}
    assert table.reached(full, figures)
    assert not table.reached(full | {"test_accuracy": 0.98814}, figures)
    assert table.reached(full | {"test_accuracy": 0.1}, None)
    assert table.reached({"dataset": "sample", "test_accuracy": 0.1}, figures)


def made_up(values, side="manual"):
    """Rows of runs whose accuracy (and loss 1 − accuracy) is given seed by seed."""
    records = []
    for name, column in values.items():
        for seed, accuracy in enumerate(column):
            figures = dict.fromkeys(("precision", "recall", "f1"), accuracy)
            figures |= {"test_accuracy": accuracy, "test_loss": 1 - accuracy}
            records.append({"run": name, "side": side, "seed": seed, **figures})
    return records


def test_the_spread_over_seeds():
    frame = spread.spread(made_up({"He normal": [0.9, 0.92, 0.97], "ten digits": [0.5]}))
    assert list(frame.run) == ["He normal", "ten digits"]
    assert list(frame.seeds) == [3, 1]
    he, ten = frame.to_dict("records")
    assert he["test_accuracy_mean"] == pytest.approx(0.93)
    assert he["test_accuracy_std"] == pytest.approx(np.std([0.9, 0.92, 0.97], ddof=1))
    assert (he["test_accuracy_min"], he["test_accuracy_max"]) == (0.9, 0.97)
    assert np.isnan(ten["test_loss_std"])
    assert table.spread_cells(he)[:3] == ["93.00±3.61", "90.00", "0.0700±0.0361"]
    assert table.spread_cells(ten)[:2] == ["50.00", "50.00"]


def test_the_table_of_several_seeds_fits_into_80_columns(rows):
    shifted = [row | {"seed": 1, "test_accuracy": row["test_accuracy"] - 0.25} for row in rows]
    shown = printed(table.spread_table(spread.spread(rows + shifted), (5, 6), rows[0]))
    assert "…" not in shown
    lines = [line.split() for line in shown.splitlines() if line.strip()]
    at = lines.index(["Glorot", "uniform"])
    assert lines[at + 1] == ["homework", "98.63", "0.046", "98.54", "98.83", "98.68"]
    mean = rows[8]["test_accuracy"] - 0.125
    assert lines[at + 2][:3] == ["manual", f"{100 * mean:.2f}", f"{100 * mean - 12.5:.2f}"]
    assert lines[at + 3][:2] == ["±", f"{100 * 0.25 / np.sqrt(2):.2f}"]
    assert lines[at + 4][0] == "torch"


def test_the_interval_is_students():
    sample = np.array([0.1, 0.3, -0.2, 0.25, 0.05])
    expected = stats.ttest_1samp(sample, 0).confidence_interval(0.9875)
    np.testing.assert_allclose(spread.interval(sample, 0.9875), expected, rtol=1e-12)


def test_a_difference_is_a_finding_only_where_chance_does_not_explain_it():
    he = [0.980, 0.981, 0.979, 0.982, 0.980]
    better = [a + d for a, d in zip(he, [0.010, 0.011, 0.009, 0.012, 0.010], strict=True)]
    luck = [a + d for a, d in zip(he, [0.003, -0.001, 0.002, -0.001, 0.001], strict=True)]
    torch = made_up({"Glorot uniform": [0.1] * 5, "He normal": [0.9] * 5}, "torch")
    for glorot, found in ((better, True), (luck, False)):
        answers = spread.findings(made_up({"Glorot uniform": glorot, "He normal": he}) + torch)
        assert [(a.figure, a.one, a.other) for a in answers] == [
            (figure, "Glorot uniform", "He normal") for figure in ("test_accuracy", "test_loss")
        ]
        assert [a.found for a in answers] == [found, found]
        assert answers[0].mean == pytest.approx(np.mean(glorot) - np.mean(he))
        assert answers[0].seeds == 5
        test = stats.ttest_rel(glorot, he)  # one of four questions, all right with 95 %
        interval = test.confidence_interval(1 - 0.05 / 4)
        np.testing.assert_allclose((answers[0].low, answers[0].high), interval, rtol=1e-9)
        lines = table.findings_lines(answers)
        assert lines[1].endswith(": better" if found else ": no finding")
        assert lines[2].endswith(": better" if found else ": no finding")
    assert "accuracy: Glorot uniform − He normal = +0.08 % (" in lines[1]
    worse = spread.findings(made_up({"Glorot uniform": he, "He normal": better}))
    assert [table.finding_line(a).rpartition(": ")[2] for a in worse] == ["worse", "worse"]
    # all 1/1850 better: an accuracy that can take so few values proves nothing without spread
    same = spread.findings(made_up({"Glorot uniform": [0.75, 0.75], "He normal": [0.5, 0.5]}))
    assert [a.found for a in same] == [False, False]
    assert spread.findings(made_up({"Glorot uniform": [0.9], "He normal": [0.8]})) == []
    assert table.findings_lines([]) == []


def test_curves_show_both_sides_and_where_early_stopping_restored(runs):
    figure = pictures.curves(runs)
    for ax, run in zip(figure.axes, runs, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        for side in ("manual", "torch"):
            epochs = run.sides[side].history.epochs
            assert list(drawn[f"{side}, training"]) == [e.loss for e in epochs]
            assert list(drawn[f"{side}, validation"]) == [e.validation_loss for e in epochs]
        assert len(drawn) == 4 + run.part.stops
        if run.part.stops:
            assert list(ax.lines[-1].get_xdata()) == [run.sides["manual"].history.best] * 2
        assert ax.get_title() == run.part.name
    notes = [ax.texts[0].get_text() for ax in figure.axes]
    assert notes[0] == "ends with epoch 2"
    assert notes[1] == "best epoch 2 (dotted),\nnot stopped by epoch 2"
    history = runs[1].sides["manual"].history._replace(best=1, stopped="early stopping")
    sides = {**runs[1].sides, "manual": runs[1].sides["manual"]._replace(history=history)}
    stopped = pictures.curves([runs[1]._replace(sides=sides)]).axes[0]
    assert stopped.texts[0].get_text() == "best epoch 1 (dotted),\nstopped after epoch 2"
    assert list(stopped.lines[-1].get_xdata()) == [1, 1]


def test_confusion_matrices_show_every_count(runs):
    figure = pictures.matrices(runs)
    drawn = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title().splitlines()[0] for ax in drawn] == [p.name for p in PARTS]
    for ax, run in zip(drawn, runs, strict=True):
        matrix = run.confusion("manual")
        shown = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
        assert shown == {(c, r): str(count) for (r, c), count in np.ndenumerate(matrix)}
        names = [label.get_text() for label in ax.get_xticklabels()]
        assert names == [str(digit) for digit in run.images.names]
        assert ax.get_title().endswith("torch: the same")
    said = runs[1].sides["torch"].said.copy()
    said[:3] = 1 - said[:3]
    sides = {**runs[1].sides, "torch": runs[1].sides["torch"]._replace(said=said)}
    (one, *_) = pictures.matrices([runs[1]._replace(sides=sides)]).axes
    assert one.get_title().endswith("torch differs in 3")


def test_mistakes_are_those_of_both_sides(runs):
    ten = runs[-1]
    manual, torch = (np.array(ten.true) for _ in range(2))
    manual[[4, 7, 9]] = (ten.true[[4, 7, 9]] + 1) % 10
    torch[[7, 9, 11]] = (ten.true[[7, 9, 11]] + 2) % 10
    sides = {
        "manual": ten.sides["manual"]._replace(said=manual),
        "torch": ten.sides["torch"]._replace(said=torch),
    }
    right = {name: ten.sides[name]._replace(said=ten.true) for name in sides}
    some, none = pictures.mistakes([ten._replace(sides=s) for s in (sides, right)]).axes
    assert (
        some.get_title("left") == "ten digits: 2 of 1000 wrong on both sides, 2 on one side alone"
    )
    assert [text.get_text() for text in some.texts] == [
        f"{ten.true[k]} → {(ten.true[k] + 1) % 10}" for k in (7, 9)
    ]
    drawn = some.images[0].get_array()
    np.testing.assert_array_equal(drawn[:, :28], 255 - ten.images.test_x[7].reshape(28, 28))
    np.testing.assert_array_equal(drawn[:, 31:59], 255 - ten.images.test_x[9].reshape(28, 28))
    assert np.ma.getmaskarray(drawn)[:, 59:].all() or np.isnan(drawn[:, 59:]).all()
    assert "0 of 1000 wrong on both sides, 0 on one side" in none.get_title("left")
    assert not none.texts
    full = pictures.mistakes([ten]).axes[0]
    assert "(the first 16)" in full.get_title("left")
    assert len(full.texts) == 16
    two = pictures.mistakes([runs[0]]).axes[0]
    assert {text.get_text() for text in two.texts} <= {"5 → 6", "6 → 5"}


def test_weights_are_those_of_the_first_layer(runs):
    for ax, run in zip(pictures.weights(runs).axes, runs, strict=True):
        first = run.sides["manual"].weights["0.weight"]
        (image,) = ax.images
        largest_first = sorted(first, key=lambda unit: -np.linalg.norm(unit))
        for k in (0, 5):
            drawn = image.get_array()[:, 31 * k : 31 * k + 28]
            np.testing.assert_array_equal(drawn, largest_first[k].reshape(28, 28))
        assert image.get_clim() == (-np.abs(first).max(), np.abs(first).max())


class Page(HTMLParser):
    """What a page refers to, and its cells by row."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.rows, self.open, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.sources += [given[name] for name in ("src", "href", "srcset") if name in given]
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        self.words.append(data)


def test_the_page_needs_no_other_file_and_holds_table_and_pictures(rows, runs):
    drawn = {name: b"\x89PNG " + name.encode() for name in pictures.PICTURES}
    text = page.page(rows, (5, 6), drawn)
    read = Page(text)
    assert not read.open
    kind = "data:image/png;base64,"
    assert [base64.b64decode(s.removeprefix(kind)) for s in read.sources] == list(drawn.values())
    assert not re.search(r"url\(|@import|<link|<script|https?:", text)
    mine = rows[2]
    assert ["manual", *table.cells(mine)[:7]] in [row[:8] for row in read.rows]
    assert [
        "early stopping",
        "homework",
        "98.815",
        "0.0507",
        "98.37",
        "99.35",
        "98.86",
    ] in read.rows
    full = [row | {"dataset": "mnist", "test_accuracy": 0.98} for row in rows]
    assert page.page(full, (5, 6), {}).count('class="below"') == 2 * 5  # but ten digits
    assert 'class="below"' not in text
    words = " ".join(" ".join(read.words).split())
    assert "of the digit 6, or, of ten digits" in words
    assert "Seeds" not in words
    assert f"NumPy {np.__version__}" in words
    other = page.page([row | {"machine": "<b>&", "git_commit": None} for row in rows], (5, 6), {})
    assert "&lt;b&gt;&amp;" in other
    assert "commit" not in other


def test_the_page_of_several_seeds_has_spread_and_answers(rows):
    second = [row | {"seed": 1, "test_accuracy": row["test_accuracy"] - 0.01} for row in rows]
    text = page.page(rows + second, (5, 6), {})
    read = Page(text)
    assert "Seeds 0 to 1: mean ± standard deviation" in text
    assert "accuracy: Glorot uniform − He normal" in text
    frame = spread.spread(rows + second).to_dict("records")
    assert ["manual", *table.spread_cells(frame[0])] in read.rows
    assert len(read.rows) == 2 * (1 + 6 * 3)


def without_times(rows):
    times = {"seconds", "samples_per_second", "when"}
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


def test_the_command_writes_rows_pictures_and_page_and_repeats_bit_by_bit(handgrad, tmp_path):
    status, out, err = handgrad("--html", "deep/page.html", "--seed", 3, "--epochs", 1)
    assert status == 0, err
    assert "early stopping" in out
    stems = sorted(re.sub("-[0-9T.]+Z", "", p.name) for p in (tmp_path / "results").iterdir())
    assert stems == [
        ".runs.csv.lock",
        *(f"homework-sample-{name}.png" for name in ("confusion", "curves", "mistakes", "weights")),
        "homework-sample.csv",
        "runs.csv",
    ]
    html = (tmp_path / "deep" / "page.html").read_text()
    (path,) = (tmp_path / "results").glob("homework-*Z.csv")
    for name in pictures.PICTURES:
        picture = path.with_name(f"{path.stem}-{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert base64.b64encode(picture).decode() in html
    for part in ("deep/page.html", path.name):
        assert part in err
    again = json.loads(handgrad("--seed", 3, "--epochs", 1, "--json")[1])
    own = pd.read_csv(path).to_dict("records")
    assert [row["run"] for row in own] == [p.name for p in PARTS for _ in range(2)]
    for column in ("weights", "test_loss", "f1", "max_weight_difference", "proof_used"):
        assert [row[column] for row in own] == [row[column] for row in again]
    logged = pd.read_csv(tmp_path / "results" / "runs.csv")
    assert list(logged.command) == ["homework"] * 24
    assert list(logged.weights[:12]) == list(logged.weights[12:])
    assert list(logged.test_accuracy[:12]) == [row["test_accuracy"] for row in own]
    assert logged.when.nunique() == 2


def test_several_seeds_are_reported_by_mean_and_spread(handgrad, monkeypatch):
    monkeypatch.setattr(command, "PARTS", [PARTS[3], PARTS[4]])
    status, out, _ = handgrad("--seeds", 2, "--seed", 7, "--epochs", 1)
    assert status == 0
    assert "seeds 7 to 8" in " ".join(out.split())
    assert "±" in out
    assert "accuracy: Glorot uniform − He normal = " in out
    frame = pd.read_csv(StringIO(handgrad("--seeds", 2, "--seed", 7, "--epochs", 1, "--csv")[1]))
    assert list(frame.seed) == [7] * 4 + [8] * 4
    assert frame.weights.nunique() == 8


def test_other_digits(handgrad, monkeypatch):
    monkeypatch.setattr(command, "PARTS", PARTS[1:2])
    frame = pd.read_csv(StringIO(handgrad("--digits", 3, 8, "--csv")[1]))
    assert set(frame.digits) == {"3-8"}


def test_options_reach_the_training(handgrad, monkeypatch):
    monkeypatch.setattr(command, "PARTS", PARTS[:1])
    status, out, err = handgrad("--dtype", "float32", "--threads", 2, "--epochs", 3, "--csv")
    assert status == 0, err
    frame = pd.read_csv(StringIO(out))
    assert set(frame.dtype) == {"float32"}
    assert set(frame.threads) == {2}
    assert set(frame.epochs_run) == {3}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--digits", "5", "5"], "two different digits, 0 to 9, got 5 5"),
        (["--digits", "5", "10"], "two different digits, 0 to 9, got 5 10"),
        (["--digits", "-1", "5"], "two different digits, 0 to 9, got -1 5"),
        (["--digits", "5"], "digits"),
        (["--dataset", "fashion"], "fashion"),
        (["--seeds", "0"], "expected a whole number >= 1"),
        (["--epochs", "0"], "expected a whole number >= 1"),
        (["--threads", "100000"], "--threads must be at most"),
        (["--json", "--csv"], "expected --json or --csv"),
        (["--html", "."], "expected a file, got a folder"),
        (["--html", "taken/page.html"], "taken"),
        (["--out", "taken"], "taken"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    handgrad, monkeypatch, tmp_path, args, told
):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(command, "trainings", lambda *a: pytest.fail("trained"))
    status, out, err = handgrad(*args)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert told in err


def test_ctrl_c_keeps_the_finished_runs(handgrad, monkeypatch, tmp_path):
    begin, calls = command.study, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return begin(*args)

    monkeypatch.setattr(command, "study", interrupted)
    status, out, err = handgrad("--html", "page.html")
    assert status == 130
    assert "interrupted after 2 finished runs" in err
    assert "early stopping" in out
    assert "random normal" not in out
    assert len(pd.read_csv(tmp_path / "results" / "runs.csv")) == 4
    assert "Glorot uniform" not in Page((tmp_path / "page.html").read_text()).rows


def test_a_pair_that_is_not_proven_is_exit_status_1(handgrad, monkeypatch, tmp_path):
    monkeypatch.setattr(nn.CrossEntropyLoss, "backward", lambda self: np.ones((64, 10)))
    status, out, err = handgrad()
    assert status == 1
    assert "not proven, so it is not trained: ten digits, seed 0" in err
    assert "Glorot uniform" in out
    assert len(pd.read_csv(tmp_path / "results" / "runs.csv")) == 10


def test_a_training_that_diverges_is_exit_status_1(handgrad, monkeypatch, tmp_path):
    def diverges(part, *args):
        raise FloatingPointError(f"{part.name}, torch: the loss became nan in epoch 1, step 2")

    monkeypatch.setattr(command, "study", diverges)
    status, out, err = handgrad()
    assert (status, out) == (1, "")
    assert "training stopped: no early stopping, torch: the loss became nan" in err


def test_float64_sides_that_end_apart_are_exit_status_1(handgrad, monkeypatch):
    monkeypatch.setattr(command, "PARTS", PARTS[:1])
    fit = study.torch_ref.training.fit

    def otherwise(*args, **options):
        return fit(*args, **{**options, "generator": np.random.default_rng(0)})

    monkeypatch.setattr(study.torch_ref.training, "fit", otherwise)
    status, _, err = handgrad()
    assert status == 1
    assert "no early stopping, seed 0: the weights of the two sides are" in err
    assert handgrad("--dtype", "float32")[0] == 0
