"""Credit for the answer and for the stated confidence apart, each its own tokens (ours)."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from data.tokenizer import decode, encode
from losses import Batch, Companion, Loss, clipped, grpo
from model import Transformer
from rewards import Context, Reward, score_parts


@dataclass(kw_only=True)
class Segments(Companion):
    """Says what answer and confidence are paid, (2, P, G), and which tokens are whose, (N, T)."""

    reward: Reward

    def score(self, policy: Transformer, batch: Batch, step: int) -> dict[str, Tensor]:
        G, paid = batch.rewards.size(1), batch.rewards.flatten().tolist()
        parts = score_parts(self.reward, paid, batch.problems, batch.responses,
                            Context(G, [], None))                                  # (2, N)
        return {"parts": batch.rewards.new_tensor(parts).reshape(2, -1, G),
                "confidence": mark_confidence(batch.ids, batch.mask)}


def grpo_segments(batch: Batch) -> Tensor:
    """GRPO where each token has its own part of the reward: the answer's, or the confidence's.

    Ours. A reward without parts is all of it the answer's: then a confidence is never pushed.
    """
    answer, confidence = (grpo(batch._replace(rewards=part))
                          for part in batch.scores["parts"])
    return torch.where(batch.scores["confidence"], confidence, answer)


def mark_confidence(ids: Tensor, mask: Tensor) -> Tensor:
    """Which tokens state the confidence: from the last space token on; (N, T) bool.

    By ids: `I get 90%` has a space in its text, but no such token. Of a response that states none
    the ending, which stands where a confidence should.
    """
    marked, space = torch.zeros_like(mask), encode(" ")[0]
    lengths = mask.sum(1).tolist()
    for row, (said, length) in enumerate(zip(ids.tolist(), lengths)):
        spaces = [t for t in range(length) if said[t] == space]
        tail = decode(said[spaces[-1]:length]) if spaces else ""
        first = spaces[-1] if re.fullmatch(" [1-9][0-9]?%", tail) else length - 1
        marked[row, first:length] = True
    return marked


LOSSES = {"grpo_segments": Loss(grpo_segments, clipped, (Segments,))}
