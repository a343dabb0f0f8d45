"""The figure of somebody's runs stays readable, whatever their flags and names, however many."""

import warnings

import pytest

from lessons import report

LONG = ("--lr 0.0{i} --eps-low 0.{i} --eps-high 0.{i} --entropy-coef 0.00{i} --kl-coef 0.0{i} "
        "--num-ops 3 4 {i} --prompts 12{i} --aggregate tokens")


def row(base="good-code", reward="random", flags="", seed=1, gain=0.2) -> dict:
    return {"base": base, "reward": reward, "loss": "grpo", "flags": flags, "seed": seed,
            "gain_total": gain}


RUNS = {
    "one": [row()],
    "one with many flags": [row(flags=LONG.format(i=5))],
    "six with many flags": [row(flags=LONG.format(i=i), seed=s) for i in range(6) for s in (1, 2)],
    "sixty": [row(f"base{i}", flags=f"--lr 0.{i}", gain=0.01 * i - 0.3) for i in range(60)],
    "beside a plain one": [row(), row(flags=LONG.format(i=5))],
    "names": [row("a$b_{"), row("$\\frac"), row("ä é", gain=-0.1), row("x" * 250),
              row("x" * 250, flags="--lr 0.1"), row("two\nlines"), row("with spaces in it " * 9)],
}


@pytest.mark.parametrize("name", RUNS)
def test_long_labels_are_cut_not_squeezed(name):
    """The bars have a third of the width or more, every label is whole, inside, of its own."""
    if not report.can_draw():
        pytest.skip("no matplotlib")
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context(report.STYLE):
        warnings.simplefilter("error")                 # of a layout that did not fit
        figure = report.draw_gains(report.Results(RUNS[name], {}))
        figure.draw_without_rendering()
    axis, labels = figure.axes[0], figure.axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    whole = figure.bbox
    assert axis.get_window_extent().width > whole.width / 3
    assert all(box.x0 >= 0 for box in boxes)
    below = sorted(boxes, key=lambda box: -box.y0)
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in zip(below, below[1:]))
    texts = [label.get_text() for label in labels]
    assert len(set(texts)) == len(texts) and all(texts)


def test_a_label_is_what_differs():
    """What all share stands above, once; a flag stays with its value. Short ones are whole."""
    same = "--lr 0.1 --kl-coef 0.01"
    labels, shared = report.label_cells([
        ("good-code", "random", "grpo", same + " --num-ops 6 7"),
        ("good-code", "correct", "grpo", same), ("good-code", "random", "grpo", same)])
    assert labels == ["random --num-ops 6 7", "correct", "random"]
    assert shared == "good-code grpo --lr 0.1 --kl-coef 0.01"
    labels, shared = report.label_cells([("b", "random", "grpo", ""), ("b", "random", "grpo",
                                                                       LONG.format(i=1))])
    assert labels[0] == "(no other flag)" and shared == "b random grpo"
    assert report.label_cells([("b", "random", "grpo", ""), ("b", "random", "grpo", "--lr 1.0")]) \
        == (["b random grpo", "b random grpo --lr 1.0"], "")
    for label in report.label_cells([("b", "r", "l", LONG.format(i=i)) for i in range(2)])[0]:
        lines = label.split("\n")
        assert len(lines) == 2 and max(map(len, lines)) <= report.LABEL
        assert lines[1].startswith("--")
