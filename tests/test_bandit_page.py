"""The page to play with, lessons/clips/bandit.html, against lessons/bandit.py and drift.py.

A browser opens a copy of the page once, with a script at its end that replays numpy's random
numbers. Without one those tests are skipped; what needs no browser is tested all the same.
"""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rlvr
from lessons import bandit, drift
from tests.helpers import open_page

FOLDER = Path(rlvr.__file__).parent / "lessons/clips"
PAGE = (FOLDER / "bandit.html").read_text(encoding="utf-8")
OFF = bandit.OFF


def read_table(name: str, page: str = PAGE):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">\n?(.*?)</script>',
                                page, re.DOTALL)[1])


CONTROLS, PRESETS = read_table("controls-table"), read_table("presets-table")
DEFAULTS = next(preset["settings"] for preset in PRESETS if preset["name"] == "habit")
by_name = {preset["name"]: {**DEFAULTS, **preset["settings"]} for preset in PRESETS}
NORM = by_name["seldom-norm"]
others = {"no coin": {**by_name["habit"], "p": 0},
          "small steps": {**by_name["habit"], "lr": 0.2},
          "one update": {**by_name["habit"], "updates": 1, "epsLow": 0.05, "epsHigh": 0.05},
          "some scaled": {**NORM, "maxNorm": 0.15},
          "scaled at first": {**NORM, "restFirst": 0, "restRival": 0}}
each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset["name"])


def expand(values: dict) -> dict:
    """A preset's values as first_arm's arguments."""
    share, rivals = values["share"], values["rivals"]
    low, high, norm = (OFF if values[key] == "off" else values[key]
                       for key in ("epsLow", "epsHigh", "maxNorm"))
    return {"prior": (share, *[round((1 - share) / rivals, 12)] * rivals), "eps": low,
            "eps_high": high, "max_norm": norm,
            "rest": (values["restFirst"], *[values["restRival"]] * rivals),
            **{key: values[key] for key in ("p", "loss", "lr", "updates", "batches")}}


# --- its numbers, in a browser

BASE = {"prior": (0.65, *[0.05] * 7), "eps": 0.2, "eps_high": 0.2, "batches": 12, "samples": 512,
        "updates": 8, "p": 0.5, "group": 16, "loss": "grpo", "lr": 2.0, "kappa": 1.0,
        "max_norm": OFF, "rest": (0.0,) * 8, "seeds": 3}
SMALL = {"prior": (0.5, 0.3, 0.2), "eps_high": 0.3, "samples": 160, "group": 10, "lr": 3.0,
         "rest": (0.4, 5.0, 3.0)}
CASES = {"as bandit.py": {}, "no clip": {"eps": OFF, "eps_high": OFF}, "p 0.9": {"p": 0.9},
         "two arms": {"prior": (0.35, 0.65), "rest": (0.0, 0.0)},
         "one update": {"updates": 1}, "a coin of 1": {"p": 1.0},
         "upper only": {"eps": OFF, "p": 0.2}, "lower only": {"eps_high": OFF, "p": 0.2},
         **{f"{loss}, uneven": {**SMALL, "loss": loss}
            for loss in ("grpo", "grpo_masked", "grpo_unweighted")},
         "norm": {**SMALL, "max_norm": 0.25, "p": 0.8},
         "norm, kappa": {**SMALL, "max_norm": 0.4, "kappa": 1.7, "p": 0.2, "eps": OFF},
         "norm, rest of the rare": {"max_norm": 0.1, "rest": (0.4, *[6.0] * 7), "p": 0.1}}
DRIFTS = [(0.2, 0.2, True), (0.4, 0.4, False), (0.4, 0.667, True), (0.05, 0.9, False)]
NORMS = [([0.6, 0.4], [40.0, 400.0], 0.1, 400, 0.01),
         ([0.2, 0.3, 0.5], [1.0, 7.0, 2.0], 0.7, 32, 3)]
COUNTS = {"pulls": (16, [0.6, 0.3, 0.1]), "wins": (7, 0.3)}
DRAWS = 20_000
ADDRESSES = ["#narrow&p=0.9&epsHigh=off&loss=grpo_masked&updates=8&random=3", "#narrow", "#nowhere",
             "#narrow&p=2&rivals=many&loss=none&random=-1"]


def record(case: dict) -> tuple[np.ndarray, dict]:
    """What first_arm gives, and the random numbers that it used, a list a seed."""
    used, plain = {"multinomial": [], "binomial": []}, np.random.default_rng

    def default_rng(seed):
        rng = plain(seed)

        def keep(name):
            def draw(*args, **kwargs):
                used[name].append(getattr(rng, name)(*args, **kwargs))
                return used[name][-1]
            return draw
        return SimpleNamespace(multinomial=keep("multinomial"), binomial=keep("binomial"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandit.np.random, "default_rng", default_rng)
        shares = bandit.first_arm(**case)
    # (updates, seeds, groups, arms) to a list of draws a seed
    pulls, wins = (np.moveaxis(np.array(used[name]), 1, 0) for name in used)
    arms = len(case["prior"])
    return shares, {"pulls": pulls.reshape(len(pulls), -1, arms).tolist(),
                    "wins": wins.reshape(len(wins), -1).tolist()}


def translate(case: dict) -> dict:
    names = {"eps": "epsLow", "eps_high": "epsHigh", "max_norm": "maxNorm"}
    return {names.get(key, key): value for key, value in case.items()}


PATHS = [[0.65, 0.7, 0.5, 0.8], [0.65, 0.96, 0.5, 0.6], [0.65, 0.6, 0.3, 0.0]]
HEAD = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
console.error = console.warn = (...words) => errors.push(words.join(" "));
</script>"""
TAIL = """<script type="application/json" id="result"></script>
<script>
const jobs = %s, result = {errors};
function replay({settings, pulls, wins}) {
  return pulls.map((_, seed) => {
    let pull = 0, win = 0;
    return firstArm(settings, {multinomial: () => pulls[seed][pull++],
                               binomial: () => wins[seed][win++]});
  });
}
function tally(draw) {
  const counts = {};
  for (let i = 0; i < %d; i++) {
    const drawn = String(draw());
    counts[drawn] = (counts[drawn] || 0) + 1;
  }
  return counts;
}
const source = randomSource(3, 5), [n, probabilities] = jobs.counts.pulls;
result.paths = jobs.cases.map(replay);
result.walls = jobs.drifts.map(each => wallDrift(...each));
result.norms = jobs.norms.map(each => normDrift(...each));
result.estimate = estimateDrift(jobs.paths);
result.quantiles = [0.05, 0.5, 0.95].map(q => quantile([1, 2, 4, 8], q));
result.lines = jobs.presets.map(values => predict(expand(values)));
result.odd = [];
for (const values of jobs.presets) {
  for (const control of CONTROLS.filter(({options}) => !options)) {
    for (const end of [control.min, control.max]) {
      const value = control.power ? 2 ** end : control.off && end === control.max ? "off" : end;
      const {line, says} = predict(expand({...values, [control.key]: value}));
      const fine = line === null || line.every(share => share >= 0 && share <= 1);
      if (!fine || !/[.]$/.test(says)) result.odd.push([values, control.key, value, says]);
    }
  }
}
const first = expand(settingsOf(PRESETS[0]));
const paths = Array.from({length: first.seeds}, (_, run) => firstArm(first, randomSource(1, run)));
result.first = {paths, line: predict(first).line, drift: estimateDrift(paths)};
result.pulls = tally(() => source.multinomial(n, probabilities));
result.wins = tally(() => source.binomial(...jobs.counts.wins));
result.streams = [[1, 0], [1, 1], [2, 0], [1, 0]].map(([seed, run]) => {
  const next = uniform(seed, run);
  return Array.from({length: 2000}, next);
});
// in a frame, since a headless window's size is not that of its page
const frame720 = document.createElement("iframe");
let framed = false;
frame720.width = 1280;
frame720.height = 720;
frame720.style.border = 0;
frame720.addEventListener("load", () => { framed = true; });
frame720.srcdoc = jobs.page;
document.body.append(frame720);
const started = setInterval(() => {
  if (find("count").textContent !== "100" || !framed) return;
  clearInterval(started);
  const read = () => Object.fromEntries(["count", "mean", "range", "up", "drift", "dashed",
    "claim", "says", "epsHigh-number"].map(id => [id, find(id).textContent]));
  const pixels = find("plot").getContext("2d").getImageData(0, 0, 600, 250).data;
  result.blue = pixels.filter((x, i) => i %% 4 === 2 && x > pixels[i - 2] + 40).length;
  result.shown = read();
  result.pressed = document.querySelector("[aria-pressed=true]").id;
  find("epsHigh").value = 1;
  for (const kind of ["input", "change"]) find("epsHigh").dispatchEvent(new Event(kind));
  result.moved = {...read(), hash: location.hash};
  find("again").click();
  result.again = location.hash;
  result.heights = PRESETS.map(preset => {
    frame720.contentWindow.choose(preset);
    return frame720.contentDocument.documentElement.scrollHeight;
  });
  result.restored = jobs.addresses.map(address => {
    history.replaceState(null, "", address);
    readAddress();
    writeAddress();
    return {...readControls(), numbers, claim: find("claim").textContent, hash: location.hash};
  });
  find("result").textContent = JSON.stringify(result);
}, 50);
</script>"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> SimpleNamespace:
    """What the page computed and showed, opened at #equal, and what Python has for it."""
    recorded = {name: record({**BASE, **case}) for name, case in CASES.items()}
    jobs = {"cases": [{"settings": translate({**BASE, **CASES[name]}), **numbers}
                      for name, (_, numbers) in recorded.items()],
            "drifts": DRIFTS, "norms": NORMS, "counts": COUNTS, "paths": PATHS,
            "addresses": ADDRESSES, "page": PAGE,
            "presets": [*by_name.values(), *others.values()]}
    folder = tmp_path_factory.mktemp("page")
    page = PAGE.replace("<head>", "<head>" + HEAD, 1)
    text = json.dumps(jobs).replace("</", "<\\/")   # the page is in there, with ends of scripts
    page = page.replace("</body>", TAIL % (text, DRAWS) + "</body>", 1)
    (folder / "bandit.html").write_text(page, encoding="utf-8")
    done = open_page(folder / "bandit.html", "#equal")
    dom = done.stdout
    assert 'id="result">{' in dom, f"the page's script broke off: {done.stderr[-2000:]}"
    result = read_table("result", dom)
    return SimpleNamespace(**result, dom=dom, said=dict(zip([*by_name, *others], result["lines"])),
                           cases={name: (python, np.array(page).T) for (name, (python, _)), page
                                  in zip(recorded.items(), result["paths"])})


@pytest.mark.parametrize("name", CASES)
def test_paths_equal_bandit_py(opened, name):
    """On the same random numbers, whole paths: a wall at the wrong bound, a weight left out, a norm
    without `rest` or kappa, an advantage of all groups at once, or a stale pi_old differs.
    """
    python, page = opened.cases[name]
    assert page.shape == python.shape == (BASE["batches"] + 1, BASE["seeds"])
    assert np.abs(page - python).max() < 1e-9
    assert name == "a coin of 1" or np.abs(np.diff(python, axis=0)).min(axis=0).max() > 0


def test_drifts_equal_drift_py(opened):
    """Both formulas: a sign, a square, or the branch without the weight differs."""
    assert opened.walls == pytest.approx([drift.wall_drift(*each) for each in DRIFTS], rel=1e-12)
    for page, each in zip(opened.norms, NORMS):
        assert page == pytest.approx(drift.norm_drift(*each), rel=1e-12)


def test_estimates_equal_drift_py(opened):
    """Drift and error a batch: a path that goes on after it left 5% to 95% differs, as does a
    quantile that is not interpolated.
    """
    assert opened.estimate == pytest.approx(drift.estimate_drift(PATHS), rel=1e-12)
    assert opened.quantiles == pytest.approx(list(np.quantile([1, 2, 4, 8], (0.05, 0.5, 0.95))))


def integrate_norm(values: dict) -> list[float]:
    """The mean field of norm_drift: the first arm's share by batch."""
    case = expand(values)
    z, n, line = np.log(case["prior"]), 512 // case["updates"], [case["prior"][0]]
    for update in range(case["batches"] * case["updates"]):
        pi = np.exp(z) / np.exp(z).sum()
        norms = (pi ** 2).sum() - 2 * pi + 1 + np.array(case["rest"])
        z = z + case["lr"] * np.array(drift.norm_drift(pi, norms, case["p"], n, case["max_norm"]))
        if (update + 1) % case["updates"] == 0:
            line.append(np.exp(z[0]) / np.exp(z).sum())
    return line


def test_the_dashed_line(opened):
    """Where a formula holds it is that formula's, flat without a drift, and else there is none.

    A line in shares instead of log-odds differs, as does one that takes a batch for an update.
    """
    lines = {name: each["line"] for name, each in opened.said.items()}
    for name in ("habit", "walls", "narrow", "often"):
        a_batch = drift.wall_drift(by_name[name]["epsLow"], by_name[name]["epsHigh"])
        logits = math.log(0.65 / 0.35) + a_batch * np.arange(by_name[name]["batches"] + 1)
        assert lines[name] == pytest.approx(list(1 / (1 + np.exp(-logits))), rel=1e-9)
    for name in ("seldom-norm", "even-norm", "often-norm"):
        assert lines[name] == pytest.approx(integrate_norm(by_name[name]), rel=1e-9)
    for name in ("no-clip", "equal", "masked", "fresh", *list(others)[:3]):
        assert lines[name] == pytest.approx([lines[name][0]] * 101)
    without = {name for name, line in lines.items() if line is None}
    assert without == {"one-rival", "smaller", "upper", "lower", "even", "some scaled"}
    for each in opened.said.values():
        assert each["says"].startswith("No line" if each["line"] is None else "Dashed: ")


def test_the_dashed_line_is_a_share(opened):
    """At either end of every control: the norm's formula has no bound where nothing is scaled."""
    assert opened.odd == []


def check_moments(values, counts, n: int, p: float):
    """Mean and variance of a binomial, each within five standard errors."""
    values, share = np.array(values), np.array(counts) / sum(counts)
    mean, variance = n * p, n * p * (1 - p)
    found = values @ share
    assert abs(found - mean) < 5 * math.sqrt(variance / DRAWS)
    kurtosis = 3 + (1 - 6 * p * (1 - p)) / variance
    spread = variance * math.sqrt((kurtosis - 1) / DRAWS)
    assert abs((values - mean) ** 2 @ share - variance) < 5 * spread


def test_random_numbers(opened):
    """Pulls and wins have the mean and the variance of their distributions.

    An arm that is skipped, a pull too few, or one coin for all pulls differs.
    """
    n, probabilities = COUNTS["pulls"]
    drawn = np.array([[int(x) for x in key.split(",")] for key in opened.pulls])
    assert (drawn.sum(axis=1) == n).all() and sum(opened.pulls.values()) == DRAWS
    for arm, p in enumerate(probabilities):
        check_moments(drawn[:, arm], list(opened.pulls.values()), n, p)
    check_moments([int(x) for x in opened.wins], list(opened.wins.values()), *COUNTS["wins"])


def test_every_run_has_its_own_random_numbers(opened):
    """The same seed and run repeat; other seeds and runs are no copies, nor shifted ones."""
    first, run, seed, again = np.array(opened.streams)
    assert (first == again).all() and 0 <= first.min() and first.max() < 1
    for other in (run, seed):
        assert not np.isin(first, other).any()
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / math.sqrt(len(first))


def test_the_page_opens(opened):
    """At the preset in its address, without an error, with its seeds and its numbers."""
    assert opened.errors == []
    assert opened.pressed == "preset-equal" and opened.blue > 5000
    shown = opened.shown
    assert shown["count"] == "100" and shown["claim"] == "If all arms are equal, luck decides."
    start, end = map(float, shown["mean"].split(" → "))
    assert start == 0.125 and abs(end - 0.125) < 0.08 and int(shown["up"][:-1]) < 40
    assert shown["dashed"] == "+0.000" and shown["epsHigh-number"] == "0.2"


def test_the_first_view_is_one_where_the_formula_holds(opened):
    """What is drawn without a choice: the mean keeps to the dashed line, the drift to its own."""
    first = opened.first
    assert np.abs(np.mean(first["paths"], axis=0) - first["line"]).max() < 0.04
    found, error = first["drift"]
    assert abs(found - drift.wall_drift(*[by_name[PRESETS[0]["name"]]["epsLow"]] * 2)) < 2 * error
    assert 2 * error < found / 4


def test_the_page_fits_a_small_screen(opened):
    """1280 x 720, with any preset's sentences: nothing is below the window's edge."""
    assert opened.heights == [720] * len(PRESETS)


def test_a_moved_control_counts(opened):
    """The preset's sentence goes, the largest eps reads off, and the address has the change."""
    assert opened.moved["epsHigh-number"] == "off"
    assert opened.moved["claim"] == "Your own settings."
    assert opened.moved["hash"] == "#equal&epsHigh=off"
    assert opened.again == "#equal&epsHigh=off&random=2"


def test_the_address_keeps_the_settings(opened):
    """They are those of the address, which stays as it was; what it cannot mean is left out."""
    own, preset, unknown, odd = opened.restored
    numbers = {"p": 0.9, "epsHigh": "off", "updates": 8, "loss": "grpo_masked"}
    assert own == {**by_name["narrow"], **numbers, "numbers": 3, "claim": "Your own settings.",
                   "hash": ADDRESSES[0]}
    assert preset["claim"] != own["claim"] and preset["hash"] == "#narrow"
    assert {key: preset[key] for key in DEFAULTS} == by_name["narrow"]
    assert {key: unknown[key] for key in DEFAULTS} == by_name[PRESETS[0]["name"]]
    assert odd["p"] == 1 and odd["numbers"] == 1
    assert {key: odd[key] for key in ("rivals", "loss")} == {"rivals": 7, "loss": "grpo"}


def test_every_control_has_a_label(opened):
    """Tied to its input, so that a keyboard and a screen reader find it."""
    for control in CONTROLS:
        key, kind = control["key"], "select" if "options" in control else "input"
        assert re.search(rf'<label for="{key}">{re.escape(control["label"])}</label>', opened.dom)
        assert len(re.findall(rf'<{kind}[^>]* id="{key}"', opened.dom)
                   + re.findall(rf'<{kind} id="{key}"', opened.dom)) >= 1


# --- its presets, without a browser

@each_preset
def test_presets_are_within_the_controls(preset):
    """A slider cuts what is beyond its end, and rounds what is between its steps, in silence."""
    values = by_name[preset["name"]]
    assert set(values) == {control["key"] for control in CONTROLS}
    for control in CONTROLS:
        value = values[control["key"]]
        if "options" in control:
            assert value in control["options"]
            continue
        if value == "off":
            assert control["off"]
            continue
        value = math.log2(value) if control.get("power") else value
        # the largest position is off, so a number has to be below it
        assert control["min"] <= value < control["max"] + (0 if control.get("off") else 1e-9)
        steps = (value - control["min"]) / control["step"]
        assert steps == pytest.approx(round(steps), abs=1e-6)


@pytest.mark.slow
@each_preset
def test_presets_go_where_they_say(preset):
    """In bandit.py: a claim of the wrong direction, or a preset with a control left as it was."""
    values = by_name[preset["name"]]
    shares = bandit.first_arm(**expand(values), seeds=400 // (1 + values["rivals"]))
    start, end = shares[0, 0], shares[-1]
    moved, error = drift.estimate_drift(shares.T.tolist())
    gain, up = end.mean() - start, np.mean(end > start)
    assert {"up": gain > 0.05 and up > 0.7 and moved > 3 * error,
            "down": gain < -0.05 and up < 0.3 and moved < -3 * error,
            "stays": abs(gain) < 3 * end.std() / math.sqrt(len(end)) and abs(moved) < 0.013,
            "no drift": abs(moved) < 3 * error and abs(moved) < 0.01 and gain < 0,
            "not up": gain < 0 and 0.1 < up < 0.6}[preset["goes"]]


@pytest.mark.slow
@each_preset
def test_presets_quote_what_bandit_py_prints(preset):
    """Mean and seeds up, of 200 seeds: a number of an earlier setting differs."""
    shares = bandit.first_arm(**expand(by_name[preset["name"]]), seeds=200)
    assert preset["printed"] == (f"{shares[0, 0]:.3g} to {shares[-1].mean():.2f} in the mean, "
                                 f"up in {np.mean(shares[-1] > shares[0, 0]):.0%}")


def test_the_file_stands_alone():
    """Small, narrow, nothing from the network, and what it links to is there."""
    assert len(PAGE.encode()) < 40_000 and max(map(len, PAGE.splitlines())) <= 100
    assert not re.search(r"https?:|src=|@import|url\(|<link|fetch\(|import\(", PAGE)
    links = re.findall(r'href="([^"]+)"', PAGE)
    assert {"README.md", "../bandit.py"} <= set(links)
    assert all((FOLDER / link).exists() for link in links)
