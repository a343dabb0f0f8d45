"""Wrong solutions of the exercise cache: what students write, and what each is told."""

import torch
from torch import Tensor

from course.exercises.catalog import replaces
from model import KVCache
from plumbing.machine import upload


@replaces("model.py:KVCache.append")
def put_new_tokens_in_front(self, layer: int, k: Tensor, v: Tensor
                            ) -> tuple[Tensor, Tensor]:
    """New keys and values stand in front of the old ones. They come behind them."""
    self.keys[layer] = torch.cat((k, self.keys[layer]), dim=2)
    self.values[layer] = torch.cat((v, self.values[layer]), dim=2)
    return self.keys[layer], self.values[layer]


@replaces("model.py:KVCache.append")
def return_new_tokens_alone(self, layer: int, k: Tensor, v: Tensor
                            ) -> tuple[Tensor, Tensor]:
    """Only the new keys and values are returned. All of the layer's are asked for."""
    self.keys[layer] = torch.cat((self.keys[layer], k), dim=2)
    self.values[layer] = torch.cat((self.values[layer], v), dim=2)
    return k, v


@replaces("model.py:KVCache.append")
def store_nothing(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Nothing is stored: the next token finds only what was there before."""
    return (torch.cat((self.keys[layer], k), dim=2), torch.cat((self.values[layer], v), dim=2))


@replaces("model.py:KVCache.append")
def keep_new_tokens_alone(self, layer: int, k: Tensor, v: Tensor
                          ) -> tuple[Tensor, Tensor]:
    """The new keys and values take the place of the old ones. They come behind them."""
    self.keys[layer], self.values[layer] = k, v
    return k, v


@replaces("model.py:KVCache.append")
def move_used_at_once(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`append` moves `used`, once a layer. `Transformer.forward` does, after the last layer."""
    self.keys[layer] = torch.cat((self.keys[layer], k), dim=2)
    self.values[layer] = torch.cat((self.values[layer], v), dim=2)
    self.used += k.size(2)
    return self.keys[layer], self.values[layer]


@replaces("model.py:KVCache.select")
def leave_the_starts(self, rows: Tensor) -> None:
    """`start` is not selected: rows get the padding of others."""
    rows = upload(rows, self.start.device)
    self.keys = [keys.index_select(0, rows) for keys in self.keys]
    self.values = [values.index_select(0, rows) for values in self.values]


@replaces("model.py:KVCache.select")
def leave_the_values(self, rows: Tensor) -> None:
    """The values are not selected: rows get those of others."""
    rows = upload(rows, self.start.device)
    self.keys = [keys.index_select(0, rows) for keys in self.keys]
    self.start = self.start[rows]


@replaces("model.py:KVCache.select")
def select_in_one_layer(self, rows: Tensor) -> None:
    """Only the first layer is selected. Every layer has keys and values of each row."""
    rows = upload(rows, self.start.device)
    self.keys[0], self.values[0] = self.keys[0][rows], self.values[0][rows]
    self.start = self.start[rows]


@replaces("model.py:KVCache.select")
def select_each_once(self, rows: Tensor) -> None:
    """Each row is kept once, in the old order. `rows` says the order, and may repeat one."""
    rows = upload(rows.unique(), self.start.device)
    self.keys = [keys.index_select(0, rows) for keys in self.keys]
    self.values = [values.index_select(0, rows) for values in self.values]
    self.start = self.start[rows]


@replaces("model.py:KVCache.select")
def compare_numbers_alone(self, rows: Tensor) -> None:
    """Nothing is done if there are as many rows as before. Their order may be another one."""
    if len(rows) == len(self.start):
        return
    rows = upload(rows, self.start.device)
    self.keys = [keys.index_select(0, rows) for keys in self.keys]
    self.values = [values.index_select(0, rows) for values in self.values]
    self.start = self.start[rows]


@replaces("model.py:Transformer.cache_mask")
def attend_to_padding(self, cache: KVCache, T: int) -> Tensor:
    """Padding is seen. A row's keys begin at its `start`."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key <= query).repeat(len(cache.start), 1, 1)
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def leave_padding_blind(self, cache: KVCache, T: int) -> Tensor:
    """A padding token sees nothing, and a softmax over nothing is 0 / 0: let it see itself."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key <= query) & (key >= cache.start[:, None, None])
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def see_the_future(self, cache: KVCache, T: int) -> Tensor:
    """New tokens see each other's future. A query sees keys up to its own column."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key >= cache.start[:, None, None]) & (query >= 0)
    seen |= key == query
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def count_queries_from_zero(self, cache: KVCache, T: int) -> Tensor:
    """Queries are counted from column 0. The first new token stands in column `used`."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[:T, None]
    seen = (key <= query) & (key >= cache.start[:, None, None])
    seen |= key == query
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def begin_one_too_late(self, cache: KVCache, T: int) -> Tensor:
    """The first real token of a row is hidden: keys from `start` on are seen, it included."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key <= query) & (key > cache.start[:, None, None])
    seen |= key == query
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def hide_oneself(self, cache: KVCache, T: int) -> Tensor:
    """A query does not see its own column. It does: keys up to it, it included."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key < query) & (key >= cache.start[:, None, None])
    seen |= (key == query) & (query <= cache.start[:, None, None])
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]


@replaces("model.py:Transformer.cache_mask")
def see_the_new_tokens_alone(self, cache: KVCache, T: int) -> Tensor:
    """What the cache holds is hidden: new tokens see each other alone."""
    key = torch.arange(cache.used + T, device=cache.start.device)
    query = key[cache.used:, None]
    seen = (key <= query) & (key >= cache.start[:, None, None]) & (key >= cache.used)
    seen |= key == query
    return self.frequencies.new_zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]
