"""How does a request to vLLM end also when vLLM does not?"""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

from magpie_steps.engines import vllm_api
from magpie_steps.engines.base import EngineLostError

LOOK_SECONDS = 0.5
"""How often vLLM is asked whether it is alive."""


class VLLMClient:
    """Asks an `AsyncLLM`, and fails every request once its engine process has died.

    vLLM itself leaves a request waiting for ever that was sent just before the death of its engine
    process was noticed. Make and use one on the loop that the `AsyncLLM` belongs to.

    Args:
        llm: the `AsyncLLM`.
        model: the model's name, for errors.
    """

    def __init__(self, llm: Any, model: str) -> None:
        self._llm = llm
        self._model = model
        self._numbers = count()
        self._requests: set[asyncio.Task[Any]] = set()
        self._died = False
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def generate(self, prompt_ids: Sequence[int], params: Any) -> Any:
        """Return vLLM's `RequestOutput`.

        Raises:
            EngineLostError: vLLM's engine process has died.
        """
        request = asyncio.current_task()
        assert request is not None
        number = f"magpie-{next(self._numbers)}"
        self._requests.add(request)
        try:
            return await vllm_api.generate(self._llm, prompt_ids, params, number)
        except asyncio.CancelledError as error:
            if self._died:
                request.uncancel()  # the task is a row's, which has more to do
                raise self._lost(error) from error
            raise
        except Exception as error:
            if vllm_api.has_died(self._llm):
                raise self._lost(error) from error
            raise
        finally:
            self._requests.discard(request)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if vllm_api.has_died(self._llm):
                self._died = True
                for request in list(self._requests):
                    request.cancel()

    def _lost(self, error: BaseException) -> EngineLostError:
        reason = str(error).strip()
        return EngineLostError(
            f"vLLM's engine process for {self._model} has ended{f' ({reason})' if reason else ''};"
            " run again: what is in the journal is not generated again"
        )
