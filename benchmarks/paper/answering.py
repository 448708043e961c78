"""What does a model answer to questions?"""

from collections.abc import Sequence
from typing import Any

CHAT = "chat"

PLAIN = {
    "raw": "{instruction}\n",
    "solved_exercise": "Question: {instruction}\nAnswer:",
}
"""Ways to ask a model that knows no chat, as in `magpie_steps.embedded.evaluate`."""

MAX_NEW_TOKENS = 128
BATCH = 100


def answers(model: Any, tokenizer: Any, questions: Sequence[str], form: str = CHAT) -> list[str]:
    """Return a model's greedy answers, in order.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        questions: What is asked.
        form: `CHAT` for the chat template, or a key of `PLAIN`.
    """
    model.eval()
    prompts = [_prompt(tokenizer, question, form) for question in questions]
    found: list[str] = []
    for start in range(0, len(prompts), BATCH):
        found += _continued(model, tokenizer, prompts[start : start + BATCH])
    # A base model goes on with more of its document behind a blank line.
    return found if form == CHAT else [text.split("\n\n")[0].strip() for text in found]


def _prompt(tokenizer: Any, question: str, form: str) -> list[int]:
    if form == CHAT:
        asked = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    else:
        ids = tokenizer(PLAIN[form].format(instruction=question))["input_ids"]
    return list(ids)


def _continued(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[str]:
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(
        model.device
    )
    made = model.generate(  # it takes no gradients
        **batch,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    new = made[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
