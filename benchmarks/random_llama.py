"""Write a model folder of a real model's shape with random weights and the embedded tokenizer.

How fast an engine is does not depend on what the weights say, so a machine that can download no
model can still measure with one.

    python benchmarks/random_llama.py 1b /tmp/random-1b
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from magpie_steps.embedded import model_path

SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
"""Layers and widths by size: those of Llama-3.2-1B and Llama-3-8B (their config.json)."""


def write(size: str, folder: Path) -> None:
    """Write weights in bfloat16, configuration and tokenizer.

    Args:
        size: One of `SHAPES`.
        folder: Where they go.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path("tiny-instruct"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
        **SHAPES[size],
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> int:
    """Write the folder that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("size", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    write(args.size, args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
