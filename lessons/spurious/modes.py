"""Could a coin move a Hugging Face model's greedy accuracy? Wants transformers and a GPU.

    python -m lessons.spurious.modes Qwen/Qwen2.5-Math-7B --problems FILE     # a problem a line

Only if prompts answered in text are within a logit of the tie: code frequency 0.27 to 0.5 at T = 1.
"""
import sys
from pathlib import Path

import numpy as np

from lessons.report import align
from plumbing.commands import Parser, head_of, run_command
from plumbing.files import read_text
from plumbing.flags import number
from plumbing.messages import InputError
from plumbing.progress import progress_bar


def count_code(args) -> np.ndarray:
    """Of each problem its code frequency at T = 1, and 1 if its greedy answer is code: (2, P)."""
    try:
        asked = [line for line in read_text(Path(args.problems)).splitlines() if line.strip()]
        from transformers import pipeline, set_seed
        pipe = pipeline("text-generation", args.model, dtype="auto", batch_size=args.batch)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(error) from None
    pipe.tokenizer.pad_token = pipe.tokenizer.pad_token or pipe.tokenizer.eos_token
    if pipe.tokenizer.chat_template:
        asked = [[{"role": "user", "content": problem}] for problem in asked]
    set_seed(0)
    shares = [], []
    for i in progress_bar(iterable=range(0, len(asked), args.batch), desc="batches"):
        for share, n in zip(shares, (args.samples, 0)):  # and no setting of the model's own
            said = pipe(asked[i:i + args.batch], do_sample=n > 0, num_return_sequences=n or 1,
                        max_new_tokens=args.max_new_tokens, temperature=1.0, top_k=0, top_p=1.0,
                        repetition_penalty=1.0, return_full_text=False)
            share += [np.mean([args.code in a["generated_text"] for a in of]) for of in said]
    return np.array(shares)


def describe_modes(shares: np.ndarray) -> str:
    """Code frequency in tenths, by greedy mode; 0.5 stands in for greedy's tie, that of tokens."""
    text, code = (shares[0, shares[1] == mode] for mode in (0, 1))
    counts = [np.bincount((10 * some + 0.5).astype(int), minlength=11) for some in (text, code)]
    rows = [[f"{i / 10:.1f}", *map(str, row)] for i, row in enumerate(zip(*counts))]
    return (f"{align([['code frequency', 'greedy text', 'greedy code'], *rows])}\n"
            f"greedy in code: {len(code)} of {shares.shape[1]}; of the {len(text)} in text "
            f"{((text >= 0.27) & (text <= 0.5)).sum()} within a logit of the tie (0.27 to 0.5)")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m lessons.spurious.modes", description=head_of(__doc__))
    parser.add_argument("model", help="a name on the Hub, or a folder")
    parser.add_argument("--problems", required=True, help="text file, a problem a line")
    parser.add_argument("--code", default="```python", help="what only code mode contains")
    for flag, default in (("samples", 16), ("max-new-tokens", 1024), ("batch", 8)):
        parser.add_argument(f"--{flag}", type=number(int, 1), default=default)
    args = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print(describe_modes(count_code(args))))


if __name__ == "__main__":
    sys.exit(main())
