"""The tokenizer and its vocabulary file."""

import doctest
import re
import runpy
import shutil
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import corpus, task, tokenizer
from plumbing.messages import InputError
from tests.test_task import problems


def test_vocabulary_file_is_what_its_script_writes(tmp_path):
    tokenizer.write_vocabulary(tmp_path / "vocab")
    written = (tmp_path / "vocab").read_bytes()
    assert written == tokenizer.VOCABULARY_FILE.read_bytes()
    assert tokenizer.VOCABULARY_HASH == zlib.crc32(written)


def test_the_vocabulary_is_its_content(tmp_path):
    """A checkout that git has given \\r\\n, or an editor no last line end, holds the same one."""
    program = Path(shutil.copy(tokenizer.__file__, tmp_path))
    path, whole = tmp_path / "vocab.tiktoken", tokenizer.VOCABULARY_FILE.read_bytes()
    for content in (whole.replace(b"\n", b"\r\n"), whole.rstrip(), b"\xef\xbb\xbf" + whole):
        path.write_bytes(content)
        module = runpy.run_path(str(program))
        assert module["VOCABULARY_HASH"] == tokenizer.VOCABULARY_HASH
        assert module["encode"]("37 *4") == tokenizer.encode("37 *4")
    assert tokenizer.VOCABULARY_HASH == 2937471063               # checkpoints have it in them


def test_every_entry_is_its_own_token():
    """Numbers 0..99, characters and idioms, once each, before the two special tokens."""
    entries = [tokenizer.decode([i]) for i in range(tokenizer.END)]
    assert len(set(entries)) == len(entries)
    assert all(tokenizer.encode(entry) == [i] for i, entry in enumerate(entries))
    assert {str(n) for n in range(100)} | set(corpus.IDIOMS) <= set(entries)
    assert tokenizer.END == len(entries) and tokenizer.PAD == len(entries) + 1
    assert tokenizer.VOCABULARY_SIZE == len(entries) + 2


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\n")))
def test_any_printable_ascii_survives(text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and all(0 <= i < tokenizer.END for i in ids)


@given(st.text(min_size=1).filter(lambda text: not re.fullmatch(r"[\n -~]*", text)))
def test_anything_else_is_rejected(text):
    with pytest.raises(InputError, match="only printable ASCII"):
        tokenizer.encode(text)


def test_special_tokens_cannot_be_typed():
    """A prompt that contains the ending's name is text, not the ending."""
    assert tokenizer.END not in tokenizer.encode("<|end|><|pad|>")
    assert tokenizer.PAD not in tokenizer.encode("<|end|><|pad|>")


def test_ending_and_padding_are_no_text():
    ids = tokenizer.encode("48.") + [tokenizer.END, tokenizer.PAD]
    assert tokenizer.decode(ids) == "48."


@given(problems)
def test_documents_have_the_designed_tokens(problem):
    """Numbers and idioms are one token each: 6 tokens of text, 7 + 4 k of code, with the ending."""
    k = len(problem.ops)
    assert len(tokenizer.encode_prompt(task.render_problem(problem))) == 2 + 2 * k
    assert len(tokenizer.encode(corpus.write_text(problem, 3, False))) + 1 == 6
    assert len(tokenizer.encode(corpus.write_good_code(problem, False))) + 1 == 7 + 4 * k
    assert len(tokenizer.encode(corpus.write_bad_code(problem, False))) + 1 == 7 + 4 * k
    start = str(problem.start)
    assert [tokenizer.decode([i]) for i in tokenizer.encode(start)] == [start]


@given(problems)
def test_a_prompt_ends_with_a_newline(problem):
    prompt = task.render_problem(problem)
    assert tokenizer.decode(tokenizer.encode_prompt(prompt)) == prompt + "\n"


def test_examples():
    assert doctest.testmod(tokenizer).failed == 0
