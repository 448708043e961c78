"""A step that asks a base model about rows' instructions."""

from pydantic import Field

from magpie_steps import columns
from magpie_steps.base_prompts import PromptStyle, text_styles
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.base_answers import AskInChat, Asking, AskInText, BaseResponseWriter
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import BaseSampling, Tunable


class BaseResponse(AnsweringStep):
    """Answers each row's instruction with a base model, to compare with the aligned model's answer.

    How much better the aligned model's response is than the base model's tells how much there is to
    learn from a row. A base model knows no chat, so it is asked in plain text: behind a few worked
    examples, or with the bare instruction. Further questions that it makes up are cut off; a
    response that ran out of tokens is kept. A row that is not kept, or asks nothing, passes through
    with an empty base response and costs no model call. The rows' other responses stay as they are.

    Attributes:
        llm: The engine of the base model; it needs no chat template but for the style `template`.
        seed: The run's seed, at least 0; without effect while base responses are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        prompt_style: How the model is asked. `few_shot` puts three worked questions in front, in
            the manner of URIAL; `raw` gives the instruction and a blank line; both take the
            instruction, or the last user message if there is none. `template` renders the
            messages, or the instruction if there are none, with the model's chat template.
        sampling: How base responses are sampled, by default greedily.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `prompt_style`: How the model is asked, one of few_shot, raw and template.

    Input columns:
        - instruction (`string`): The instruction to answer.
        - messages (`list<struct>`): The conversation, read if there is no instruction or in the
            style `template`.
        - keep (`bool`): Whether to answer the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds its response; by default the prompt does.

    Output columns:
        - base_response (`string`): The base model's answer, cut at its end.
        - base_response_raw (`string`): The answer as the base model wrote it.
        - base_response_finish_reason (`string`): Why the base model ended its answer.
        - base_response_tokens (`int64`): Tokens generated for the base response, the stop included.
        - gen_base_configs (`struct`): How the base model was asked: settings, the prompt's style,
            the model.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - text-generation

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)
        - [URIAL](https://arxiv.org/abs/2312.01552)

    Examples:
        Answer an instruction without a model:

        ```python
        from magpie_steps import BaseResponse, ScriptedEngine

        step = BaseResponse(llm=ScriptedEngine())
        step.load()
        rows = next(step.process([{"instruction": "Name a prime number."}, {"instruction": ""}]))
        print([(row["keep"], row["drop_reason"]) for row in rows])
        # [(True, ''), (False, 'no_instruction')]
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

        ```
        @misc{lin2023unlocking,
            title={The Unlocking Spell on Base LLMs: Rethinking Alignment via In-Context Learning},
            author={Bill Yuchen Lin and Abhilasha Ravichander and Ximing Lu and Nouha Dziri and
                Melanie Sclar and Khyathi Chandu and Chandra Bhagavatula and Yejin Choi},
            year={2023},
            eprint={2312.01552},
            archivePrefix={arXiv},
            primaryClass={cs.CL}
        }
        ```
    """

    prompt_style: Tunable[PromptStyle] = Field(
        default="few_shot", description="How the model is asked, one of few_shot, raw and template."
    )
    sampling: BaseSampling = Field(default_factory=BaseSampling)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("BaseResponse")

    def _make_writer(self, progress: Progress) -> BaseResponseWriter:
        style = text_styles().get(self.prompt_style)
        asking: Asking = (
            AskInText(self.llm, style, self.sampling)
            if style
            else AskInChat(self.llm, self.sampling)
        )
        return BaseResponseWriter(self.llm, asking, self.prompt_style, self.seed, progress)
