"""The tokenizer: a real tiktoken.Encoding over the vocabulary file beside this module.

The vocabulary is every printable ASCII character and the newline, the numbers 10..99, and the fixed
idioms of the corpora, so a number is always one token. Text is cut into vocabulary entries from the
left, longest first.

>>> [decode([i]) for i in encode("37 *4")]
['37', ' *', '4']
>>> encode("caf\\u00e9")
Traceback (most recent call last):
    ...
plumbing.messages.InputError: cannot encode '\\xe9': only printable ASCII and newlines
"""

import base64
import re
import sys
import zlib
from pathlib import Path

import tiktoken

from data.corpus import IDIOMS
from plumbing.commands import run_command
from plumbing.files import read_text, write
from plumbing.messages import InputError

VOCABULARY_FILE = Path(__file__).with_name("vocab.tiktoken")


def write_vocabulary(path: Path = VOCABULARY_FILE) -> None:
    """Write the vocabulary anew: python -m data.tokenizer."""
    characters = [chr(c) for c in range(32, 127)] + ["\n"]
    tokens = characters + [str(n) for n in range(10, 100)] + list(IDIOMS)
    write(path, format_ranks({token.encode(): i for i, token in enumerate(tokens)}))


def format_ranks(ranks: dict[bytes, int]) -> str:
    """A vocabulary as a file: a token in base64 and its id per line."""
    return "".join(f"{base64.b64encode(token).decode()} {i}\n" for token, i in ranks.items())


def load_ranks(path: Path = VOCABULARY_FILE) -> dict[bytes, int]:
    pairs = [line.split() for line in read_text(path).splitlines()]
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def make_encoding(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    longest_first = sorted((token.decode() for token in ranks), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return tiktoken.Encoding("clock", pat_str=pattern, mergeable_ranks=ranks,
                             special_tokens={"<|end|>": len(ranks), "<|pad|>": len(ranks) + 1})


RANKS = load_ranks()
ENCODING = make_encoding(RANKS)
# It ends every response: an action like any other, it gets gradient.
END = ENCODING.encode_single_token("<|end|>")
# Not END, so that masking the padding cannot mask the ending.
PAD = ENCODING.encode_single_token("<|pad|>")
VOCABULARY_SIZE = ENCODING.n_vocab
# Which vocabulary a checkpoint is of. Not the bytes of the file: git may write its line ends anew.
VOCABULARY_HASH = zlib.crc32(format_ranks(RANKS).encode())


def encode(text: str) -> list[int]:
    """Text to token ids. Raises InputError for anything but printable ASCII and newlines."""
    unknown = re.search(r"[^\n -~]", text)
    if unknown:
        raise InputError(f"cannot encode {unknown.group()!a}: only printable ASCII and newlines")
    return ENCODING.encode_ordinary(text)


def encode_prompt(prompt: str) -> list[int]:
    """A prompt as the model sees it: the problem and a newline, after which the response begins."""
    return encode(prompt + "\n")


def decode(ids: list[int]) -> str:
    """Token ids to text; the ending and the padding are not text and are left out."""
    return ENCODING.decode([i for i in ids if i < END])


if __name__ == "__main__":
    sys.exit(run_command("python -m data.tokenizer", write_vocabulary))
