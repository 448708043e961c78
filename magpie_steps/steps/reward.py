"""A step that scores rows' answers with a reward model."""

from typing import TYPE_CHECKING

from distilabel.steps import Step, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps import columns
from magpie_steps.engines.reward import RewardModel
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.scoring import answers_of, scored
from magpie_steps.steps.settings import Count

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class RewardScorer(Step):
    """Scores each row's answers with a reward model.

    The answers are the response, the base model's response and several sampled responses, as far
    as a row has them; each is scored as the answer to what the row asks. That is the part of its
    messages before the response, of several turns the first one that it ends, or the instruction if
    there are no messages. All answers of a batch of rows are scored in one pass, sorted by length.
    A row that is not kept passes through without rewards and costs nothing. A row whose response
    has no reward is dropped; without a response, one whose responses all have none. Unlike the
    stock `RewardModelScore` it batches by length, never cuts a text to the model's context without
    a word, and one bad row harms no other.

    Attributes:
        reward_model: The reward model, or its settings as a dict; by default the embedded
            tiny-reward.
        input_batch_size: Rows per batch between steps, at least 1. It changes rewards by rounding
            only.

    Runtime parameters:
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The instruction, read if there are no messages.
        - response (`string`): The response.
        - messages (`list<struct>`): The conversation, with the response or without.
        - base_response (`string`): A base model's answer.
        - responses (`list<string>`): Several answers.
        - keep (`bool`): Whether to score the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - reward_model (`string`): The model that scored the answers, "" if none did.
        - instruct_reward (`float64`): The reward model's score of the response.
        - base_reward (`float64`): The reward model's score of the base response.
        - reward_difference (`float64`): The response's reward minus the base response's, NaN unless
            both have one.
        - responses_rewards (`list<float64>`): The reward model's score of each of the responses, in
            their order.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - scorer

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Score two responses with the embedded reward model:

        ```python
        from magpie_steps import RewardScorer

        step = RewardScorer()
        step.load()
        question = {"instruction": "What is 2 plus 3?"}
        rows = next(step.process([{**question, "response": "5"}, {**question, "response": ""}]))
        print([(row["reward_model"], row["keep"], row["drop_reason"]) for row in rows])
        # [('tiny-reward', True, ''), ('', False, 'reward_missing_response')]
        step.unload()
        ```

    Citations:
        ```
        @misc{xu2024magpie,
            title={Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with
                Nothing},
            author={Zhangchen Xu and Fengqing Jiang and Luyao Niu and Yuntian Deng and
                Radha Poovendran and Yejin Choi and Bill Yuchen Lin},
            year={2024},
            eprint={2406.08464},
            archivePrefix={arXiv},
            primaryClass={cs.CL}
        }
        ```
    """

    reward_model: RewardModel = Field(default_factory=RewardModel)
    input_batch_size: Count = Field(default=1000, description="Rows per batch between steps.")

    _progress: Progress | None = PrivateAttr(default=None)

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs a question and answers."""
        asked = ("instruction", "response", "messages")
        return dict.fromkeys((*asked, "base_response", "responses", "keep", "drop_reason"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("RewardScorer")

    def load(self) -> None:
        """Load the reward model."""
        super().load()
        self.reward_model.load()
        self._progress = Progress(0, self._logger.info, self._work)

    def unload(self) -> None:
        """Let go of the reward model."""
        self._progress = None
        self.reward_model.unload()
        super().unload()

    def _work(self, seconds: float) -> list[str]:
        return [f"{self.reward_model.tokens_read / seconds:,.0f} tokens/s"]

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their rewards, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        progress = self._progress
        if progress is None:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        answers = [answers_of(row) for row in inputs]
        conversations = [each for some in answers for each in some.conversations]
        rewards = iter(self.reward_model.rate(conversations))
        name = self.reward_model.model_name
        rows = [scored(row, some, rewards, name) for row, some in zip(inputs, answers, strict=True)]
        for row in rows:
            progress.count(row)
        yield rows
