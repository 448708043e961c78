"""The one error that a run which did not end well raises."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from magpie_steps.running import RunResult


class PipelineRunError(RuntimeError):
    """A pipeline run ended without all of its rows; the message says what, where and the remedy.

    Attributes:
        step: name of the step at fault; `None` when no single step is.
        details: the traceback of the step's own process as text; `""` when there is none.
        result: what the run did produce, when it ran to its end but rows failed or their number is
            wrong; `None` when it was ended early.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str | None = None,
        details: str = "",
        result: "RunResult | None" = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.details = details
        self.result = result
        if details:
            self.add_note(details)
