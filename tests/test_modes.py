"""The check of a Hugging Face model's modes: what it asks, how it counts, what it says.

Without transformers on a stand-in for its pipeline; with it, on a tiny Llama as well.
"""

import types

import numpy as np
import pytest

from lessons.spurious import modes

PROBLEMS = "1 + 2\n\n2\n1 + 1 + 2 + 2\n"
CODE = "So: ```python 3"
HEAD = "code frequency  greedy text  greedy code"


def read_rows(out: str) -> dict:
    """The histogram {row: (greedy text, greedy code)}, without its empty rows."""
    head, *rows, _ = out.splitlines()
    counts = {row.split()[0]: tuple(map(int, row.split()[1:])) for row in rows}
    assert head == HEAD and list(counts) == [f"{i / 10:.1f}" for i in range(11)]
    return {row: pair for row, pair in counts.items() if any(pair)}


def describe(*pairs):
    """Of (code frequency, greedy) of each problem: the histogram, and the last line."""
    out = modes.describe_modes(np.reshape(pairs, (-1, 2)).T)
    return read_rows(out), out.splitlines()[-1]


def test_histogram():
    """By hand. Catches swapped columns, bins that begin at tenths, the tie of all prompts.

    In sixteenths: 4 is outside the logit (0.25), 5 and 8 are inside, 9 is above.
    """
    sixteenths = [(0, 0), (4, 0), (5, 0), (8, 0), (9, 0), (6, 1), (16, 1), (15, 1)]
    assert describe(*((n / 16, greedy) for n, greedy in sixteenths)) == (
        {"0.0": (1, 0), "0.3": (2, 0), "0.4": (0, 1), "0.5": (1, 0), "0.6": (1, 0), "0.9": (0, 1),
         "1.0": (0, 1)},
        "greedy in code: 3 of 8; of the 5 in text 2 within a logit of the tie (0.27 to 0.5)")
    assert describe((1, 1)) == (
        {"1.0": (0, 1)},
        "greedy in code: 1 of 1; of the 0 in text 0 within a logit of the tie (0.27 to 0.5)")


@pytest.fixture
def check(tmp_path, capsys):
    """Run the command on a file with PROBLEMS: its exit code, stdout and stderr."""
    def run_check(model, *flags, problems=PROBLEMS):
        (tmp_path / "problems.txt").write_text(problems, encoding="utf-8")
        rc = modes.main([str(model), "--problems", str(tmp_path / "problems.txt"),
                         *map(str, flags)])
        return rc, *capsys.readouterr()
    return run_check


@pytest.fixture
def stand_in(monkeypatch):
    """A module `transformers` that notes what it is asked and answers from a script.

    Of the answers to a problem the first are code: as many as its length modulo 4.
    """
    asked = []
    tokenizer = types.SimpleNamespace(chat_template=None, pad_token=None, eos_token="<end>")

    def pipe(batch, do_sample, num_return_sequences, **others):
        asked.append((batch, do_sample, num_return_sequences, others))
        texts = [one if isinstance(one, str) else one[0]["content"] for one in batch]
        return [[{"generated_text": CODE if i < len(text) % 4 else "three"}
                 for i in range(num_return_sequences)] for text in texts]

    def pipeline(task, name, **others):
        asked.append((task, name, others))
        return pipe

    pipe.tokenizer = tokenizer
    module = types.SimpleNamespace(pipeline=pipeline, set_seed=lambda seed: asked.append(seed))
    monkeypatch.setitem(modes.sys.modules, "transformers", module)
    return types.SimpleNamespace(asked=asked, tokenizer=tokenizer)


def test_what_is_asked_and_counted(stand_in, check):
    """Batches of two: n samples at T = 1, then one greedy answer, and no setting of the model's.

    All three have a quarter of the samples in code, and their greedy answer.
    """
    rc, out, _ = check("tiny", "--samples", 4, "--batch", 2, "--max-new-tokens", 9)
    first, seed, *calls = stand_in.asked
    assert rc == 0 and seed == 0
    assert first == ("text-generation", "tiny", {"dtype": "auto", "batch_size": 2})
    assert [call[:3] for call in calls] == [
        (["1 + 2", "2"], True, 4), (["1 + 2", "2"], False, 1),
        (["1 + 1 + 2 + 2"], True, 4), (["1 + 1 + 2 + 2"], False, 1)]
    assert all(call[3] == {"max_new_tokens": 9, "temperature": 1.0, "top_k": 0, "top_p": 1.0,
                           "repetition_penalty": 1.0, "return_full_text": False}
               for call in calls)
    assert stand_in.tokenizer.pad_token == "<end>"
    assert read_rows(out) == {"0.3": (0, 3)} and "greedy in code: 3 of 3" in out


def test_counts_are_of_their_own_problem(stand_in, check):
    """0, 1/4, 2/4 and 3/4 of the samples of lines of 4, 5, 6 and 7 are code, in batches of 3."""
    lines = "1111\n11111\n1 + 11\n1234567"
    rc, out, _ = check("tiny", "--samples", 4, "--batch", 3, problems=lines)
    assert rc == 0
    assert read_rows(out) == {"0.0": (1, 0), "0.3": (0, 1), "0.5": (0, 1), "0.8": (0, 1)}


def test_a_chat_template_and_another_sign_of_code(stand_in, check):
    """A model that has a template is asked in it; --code says what only code contains.

    15 of 16 samples are code in that sense, the greedy one is not.
    """
    stand_in.tokenizer.chat_template, stand_in.tokenizer.pad_token = "{{ messages }}", "<pad>"
    rc, out, _ = check("tiny", "--code", "three", problems="2")
    assert stand_in.asked[2][0] == [[{"role": "user", "content": "2"}]]
    assert stand_in.tokenizer.pad_token == "<pad>" and rc == 0
    assert read_rows(out) == {"0.9": (1, 0)}


@pytest.mark.parametrize("line", [
    "tiny", "tiny --problems nowhere.txt", "tiny --problems .", "--problems problems.txt",
    "tiny --problems problems.txt --samples 0", "tiny --problems problems.txt --batch x"])
def test_bad_input_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems.txt").write_text(PROBLEMS, encoding="utf-8")
    try:
        rc = modes.main(line.split())
    except SystemExit as stop:
        rc = stop.code
    assert rc == 2 and capsys.readouterr().err.count("\n") == 1


def test_without_transformers_one_line(check, monkeypatch):
    monkeypatch.setitem(modes.sys.modules, "transformers", None)
    rc, out, err = check("tiny")
    assert (rc, out, err.count("\n")) == (2, "", 1) and "transformers" in err


# --- on a real model

WORDS = ["<end>", "```python", "So", "1", "2", "+"]


@pytest.fixture
def tiny_llama(tmp_path):
    """A folder with a random Llama over six words, and what its own settings say."""
    transformers = pytest.importorskip("transformers")
    import tokenizers
    import torch
    words = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<end>")
    splitter = tokenizers.Tokenizer(words)
    splitter.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=splitter, eos_token="<end>")
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=6, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, eos_token_id=0, bos_token_id=None, initializer_range=0.7))
    # All that would make another distribution of T = 1.
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=0, do_sample=True, temperature=0.01, top_k=1, repetition_penalty=3.0)
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny", model, tokenizer


TEMPLATE = ("{% if add_generation_prompt %}+ {% endif %}"
            "{% for said in messages %}So {{ said.content }}{% endfor %}")


def exact_modes(model, tokenizer, problem: str) -> tuple[float, float]:
    """P(the one token of a response is code's), and whether it is the likeliest: no padding."""
    logits = model(tokenizer(problem, return_tensors="pt")["input_ids"]).logits[0, -1]
    return logits.softmax(-1)[1].item(), float(logits.argmax() == 1)


@pytest.mark.parametrize("chat", [False, True])
def test_a_real_model_is_sampled_at_temperature_1(chat, tiny_llama, check, monkeypatch):
    """Against its exact next-token probabilities, problem by problem; and then its output.

    Catches the model's own temperature, top-k and penalty, padding on the right, a prompt that is
    counted as response (one problem has the sign of code in it), and an answer to another problem.
    """
    folder, model, tokenizer = tiny_llama
    problems = ["1", "```python + So + 2", "2 2 2 So", "So ```python", "+"]
    tokenizer.chat_template = TEMPLATE if chat else None
    tokenizer.save_pretrained(folder)
    seen, describe_modes = [], modes.describe_modes
    monkeypatch.setattr(modes, "describe_modes", lambda shares: seen.append(shares)
                        or describe_modes(shares))
    rc, out, _ = check(folder, "--samples", 4000, "--batch", 2, "--max-new-tokens", 1,
                       problems="\n".join(problems))
    prompts = [f"+ So {problem}" if chat else problem for problem in problems]
    exact = np.array([exact_modes(model, tokenizer, prompt) for prompt in prompts]).T
    assert rc == 0 and np.allclose(seen[0][0], exact[0], atol=5 * np.sqrt(0.25 / 4000))
    assert seen[0][1].tolist() == exact[1].tolist()
    assert exact[0].max() - exact[0].min() > 0.2
    assert out.startswith(HEAD) and f"greedy in code: {exact[1].sum():.0f} of 5;" in out
