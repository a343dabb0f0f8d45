"""Our transformer as a Hugging Face Llama, and TRL's GRPOTrainer on it.

Llama turns the pairs (j, j + D/2) of a head where we turn (2j, 2j + 1), so the rows of q and k are
reordered. Its MLP is down(act(gate u) * up u): with gate and up one matrix and act = Phi, the
normal distribution function, it is our down(gelu(up u)).

Shapes: C width, H heads, D = C / H. trl and transformers are imported inside functions only:
nothing else of the project needs them.
"""

import logging
import os
import warnings
from typing import Callable

import torch
from torch import Tensor, nn

from data.tokenizer import END, PAD, VOCABULARY_SIZE
from model import Transformer
from plumbing.messages import InputError
from rlvr import TrainConfig

VERSIONS = {"trl": "1.16.0", "transformers": "5.24.0"}


def import_peers() -> None:
    """Import trl and transformers, quiet and offline; InputError in one line where they are not."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
                   "TOKENIZERS_PARALLELISM": "false"}
    for name in ("trl", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of names of theirs that are deprecated
    try:
        import transformers  # noqa: F401
        import trl  # noqa: F401
    except ModuleNotFoundError as error:
        wanted = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
        raise InputError(f"{error.name} is not installed: pip install {wanted}") from None


class NormalCDF(nn.Module):
    """Phi(u), for which Phi(u) u = gelu(u)."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.special.ndtr(u)


class PlainMLP(nn.Module):
    """down(gelu(up x)), without a gate: what Llama's MLP does here, for a third fewer products."""

    def __init__(self, up: nn.Linear, down: nn.Linear):
        super().__init__()
        self.up_proj, self.down_proj = up, down

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.gelu(self.up_proj(x)))


class DoubleNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * weight in the precision of x; Llama's own rounds to float32."""

    def __init__(self, weight: nn.Parameter, eps: float):
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


class DoubleRotary(nn.Module):
    """cos and sin (1, T, D) of position times frequency; Llama's own are float32 tables."""

    def __init__(self, frequencies: Tensor):
        super().__init__()
        self.register_buffer("frequencies", frequencies.double(), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None].double() * self.frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def halve_pairs(rows: Tensor, heads: int) -> Tensor:
    """The rows (C, C) of q or k from pairs side by side to pairs half a head apart."""
    pairs = rows.view(heads, -1, 2, rows.size(1))                        # (H, D / 2, 2, C)
    return pairs.transpose(1, 2).reshape(rows.shape)


def map_weights(model: Transformer, llama: nn.Module) -> None:
    """Copy all weights of ours into a Llama of the same shape, in place."""
    with torch.no_grad():
        llama.model.embed_tokens.weight.copy_(model.embedding.weight)
        llama.model.norm.weight.copy_(model.norm.weight)
        llama.lm_head.weight.copy_(model.head.weight)
        for block, layer in zip(model.blocks, llama.model.layers):
            attention, (q, k, v) = layer.self_attn, block.qkv.weight.chunk(3)
            attention.q_proj.weight.copy_(halve_pairs(q, block.heads))
            attention.k_proj.weight.copy_(halve_pairs(k, block.heads))
            attention.v_proj.weight.copy_(v)
            attention.o_proj.weight.copy_(block.proj.weight)
            layer.mlp.up_proj.weight.copy_(block.up.weight)
            layer.mlp.down_proj.weight.copy_(block.down.weight)
            layer.input_layernorm.weight.copy_(block.norm_attention.weight)
            layer.post_attention_layernorm.weight.copy_(block.norm_mlp.weight)


def make_llama(model: Transformer, gated: bool = False) -> nn.Module:
    """A LlamaForCausalLM with our weights, in our precision.

    gated: with Llama's own MLP, its gate and its up being one matrix; else with ours, which is the
    same function and faster. In float64 norms and rotary tables are replaced by float64 ones.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, dtype = model.config, model.head.weight.dtype
    config = LlamaConfig(
        vocab_size=shape.vocabulary_size, hidden_size=shape.width,
        intermediate_size=4 * shape.width, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=128, rms_norm_eps=torch.finfo(dtype).eps,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False, attention_bias=False, mlp_bias=False,
        attn_implementation="sdpa", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    llama = LlamaForCausalLM(config).to(dtype)
    for layer in llama.model.layers:
        if gated:
            layer.mlp.act_fn, layer.mlp.gate_proj = NormalCDF(), layer.mlp.up_proj
        else:
            layer.mlp = PlainMLP(layer.mlp.up_proj, layer.mlp.down_proj)
    if dtype == torch.float64:
        use_double(llama, model)
    map_weights(model, llama)
    return llama


def use_double(llama: nn.Module, model: Transformer) -> None:
    """Replace what a Llama computes in float32 whatever its weights are."""
    llama.model.rotary_emb = DoubleRotary(model.frequencies)
    for layer in llama.model.layers:
        for name in ("input_layernorm", "post_attention_layernorm"):
            norm = getattr(layer, name)
            setattr(layer, name, DoubleNorm(norm.weight, norm.variance_epsilon))
    llama.model.norm = DoubleNorm(llama.model.norm.weight, llama.model.norm.variance_epsilon)


# --- TRL

def make_tokenizer():
    """Our ids for TRL, which wants text: the ids, with spaces between."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {str(i): i for i in range(VOCABULARY_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=str(PAD)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=str(END),
                                   pad_token=str(PAD), padding_side="left")


def make_settings(config: TrainConfig, batches: int, folder: str, loss_type: str):
    """TRL's flags for our config: one thread of a CPU, and the fastest of what was tried.

    `luspo` divides by the number of sequences, as --aggregate sequences does. No checkpoints of
    activations, no bfloat16, no logs, no files, no reference model; a forward pass holds all rows
    of an update (half of them twice: a sixth slower).
    """
    from trl import GRPOConfig

    rollouts = config.prompts * config.group
    return GRPOConfig(
        output_dir=folder, per_device_train_batch_size=rollouts // config.updates,
        steps_per_generation=config.updates, max_steps=batches * config.updates,
        gradient_accumulation_steps=1, num_generations=config.group, shuffle_dataset=False,
        max_completion_length=config.max_new_tokens, temperature=config.temperature, beta=0.0,
        epsilon=config.eps_low, epsilon_high=config.eps_high, loss_type=loss_type,
        scale_rewards="group" if config.loss == "grpo" else "none", use_bias_correction_kl=False,
        entropy_coef=config.entropy_coef, lr_scheduler_type="constant", learning_rate=config.lr,
        max_grad_norm=config.max_grad_norm, gradient_checkpointing=False, bf16=False, use_cpu=True,
        report_to="none", logging_strategy="no", save_strategy="no", eval_strategy="no",
        disable_tqdm=True, dataloader_pin_memory=False, seed=config.seed)


def make_trainer(kind: type, llama: nn.Module, config: TrainConfig, prompts: list[list[int]],
                 reward: Callable, batches: int, folder: str, loss_type: str = "luspo",
                 callbacks: tuple = ()):
    """A GRPOTrainer of some kind on `prompts` (P ids each), in this order, with SGD."""
    from datasets import Dataset
    from transformers import PrinterCallback

    data = Dataset.from_dict({"prompt": [" ".join(map(str, prompt)) for prompt in prompts]})
    optimizer = torch.optim.SGD(llama.parameters(), lr=config.lr)
    trainer = kind(model=llama, reward_funcs=reward, train_dataset=data,
                   args=make_settings(config, batches, folder, loss_type),
                   processing_class=make_tokenizer(), callbacks=list(callbacks),
                   optimizers=(optimizer, None))
    trainer.remove_callback(PrinterCallback)
    return trainer
