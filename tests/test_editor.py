"""What an editor finds: from where a flag is used to where it is declared (go to definition)."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# file, what stands in the line, the name in it -> file, how the line of its declaration begins
USES = [
    ("rlvr.py", "np.array_split(shuffled, config.updates)", "updates", "rlvr.py", "updates: int ="),
    ("rlvr.py", "sample_groups(policy, asked, config, step)", "sample_groups", "rlvr.py",
     "def sample_groups("),
    ("run.py", "draw_problems(config.pool, \"training\"", "pool", "rlvr.py", "pool: int ="),
    ("losses.py", "bounded = ratio.clamp(1 - eps_low, 1 + eps_high)", "eps_high", "losses.py",
     "eps_low: EpsLow = 0.4, eps_high: EpsHigh = 0.4)"),
    ("losses.py", "tokens.advantages + old, self.eps_value", "eps_value", "losses.py",
     "eps_value: float ="),
    ("companions/teacher.py", "write_hints(self.hint, ", "hint", "companions/teacher.py",
     "hint: str ="),
    ("companions/teacher.py", "self.directive_weight, divergence", "directive_weight",
     "companions/teacher.py", "directive_weight: Weight ="),
    ("rewards.py", "random(len(responses)) < p)", "p)", "rewards.py", "def random("),
]


@pytest.mark.slow
@pytest.mark.parametrize("file, line, name, declared, beginning", USES, ids=lambda text: text[:20])
def test_a_flag_leads_to_its_declaration(file, line, name, declared, beginning):
    """Catches a config made at run time, of which an editor knows nothing."""
    jedi = pytest.importorskip("jedi")
    path = ROOT / file
    text = path.read_text("utf-8")
    assert text.count(line) == 1
    before = text[:text.index(line) + line.rindex(name)]
    row, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
    script = jedi.Script(path=path, project=jedi.Project(ROOT))
    found, = script.goto(row, column, follow_imports=True)
    assert found.module_path == ROOT / declared
    assert found.get_line_code().strip().startswith(beginning)
