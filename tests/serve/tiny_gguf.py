"""A model file of a few hundred KB with random weights: llama architecture, byte-level vocabulary, chat template.

It answers nonsense, at once and always the same for the same seed, which is all that a test of a server needs. Two of
the dimensions are kept out of the layers' reach: the first is the same for every token, so that its output weights
are a bias; the second marks the tokens after which the model ends.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CONTEXT = 512
WORDS = ("cho", "ice", "choice", '{"', '":"', '"}', "the", " the")
"""Tokens of more than one character, so that an answer can be spelt in several ways."""

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_END = "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WIDTH, _HIDDEN, _HEADS, _KV_HEADS, _LAYERS = 64, 96, 4, 2, 2


def write_tiny_gguf(path: Path, *, seed: int = 0, answers: str = "", template: str = _TEMPLATE) -> Path:
    """Write the model file and return its path.

    With `answers` the model says one of these characters and ends; without, it says any bytes and never ends.
    """
    tokens, merges = _vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [*[gguf.TokenType.NORMAL] * (len(tokens) - len(_SPECIAL)), *[gguf.TokenType.CONTROL] * len(_SPECIAL)]
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index(_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    for name, tensor in _weights(tokens, answers, np.random.default_rng(seed)).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary() -> tuple[list[str], list[str]]:
    """Every byte, the words with the parts they are merged from, and the special tokens; and the merges."""
    letters = _byte_letters()
    tokens = list(letters.values())
    merges: list[str] = []
    for word in WORDS:
        parts = [letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            joined = parts[0] + parts[1]
            if joined not in tokens:
                tokens.append(joined)
                merges.append(f"{parts[0]} {parts[1]}")
            parts = [joined, *parts[2:]]
    return [*tokens, *_SPECIAL], merges


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for every byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _weights(tokens: list[str], answers: str, random: np.random.Generator) -> dict[str, np.ndarray]:
    kv = _WIDTH // _HEADS * _KV_HEADS
    found = {"output_norm.weight": np.ones(_WIDTH)}

    def draw(name: str, *shape: int) -> np.ndarray:
        found[f"{name}.weight"] = drawn = 2.0 * random.standard_normal(shape) / np.sqrt(shape[-1])
        return drawn

    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        found |= {f"{block}.{norm}.weight": np.ones(_WIDTH) for norm in ("attn_norm", "ffn_norm")}
        draw(f"{block}.attn_q", _WIDTH, _WIDTH)
        draw(f"{block}.attn_k", kv, _WIDTH)
        draw(f"{block}.attn_v", kv, _WIDTH)
        draw(f"{block}.ffn_gate", _HIDDEN, _WIDTH)
        draw(f"{block}.ffn_up", _HIDDEN, _WIDTH)
        draw(f"{block}.attn_output", _WIDTH, _WIDTH)[:2] = 0
        draw(f"{block}.ffn_down", _WIDTH, _HIDDEN)[:2] = 0
    embedding, output = draw("token_embd", len(tokens), _WIDTH), draw("output", len(tokens), _WIDTH)
    embedding[:, 0], embedding[:, 1] = 8, 0
    output[:, :2] = 0
    liked = [tokens.index(character) for character in answers]
    embedding[liked, 1] = 8
    output[liked, 0] = 10
    output[tokens.index(_END), 1] = 30
    output[[tokens.index(special) for special in _SPECIAL], 0] = -10
    return found
