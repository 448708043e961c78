"""Steps for `test_running.py`: well-behaved ones and one for each way to misbehave.

They are at the top level of a module because distilabel sends steps to processes by pickling them.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from distilabel.steps import GeneratorStep, GlobalStep, Step, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps.engines.base import EngineLostError


class Numbers(GeneratorStep):
    """Rows 0, 1, 2 ... with a text."""

    num_rows: int = 10
    text: str = "row"

    @property
    def outputs(self) -> list[str]:
        return ["n", "text"]

    def process(self, offset: int = 0) -> Any:
        for first in range(offset, self.num_rows, self.batch_size):
            rows = range(first, min(first + self.batch_size, self.num_rows))
            last = first + self.batch_size >= self.num_rows
            yield [{"n": n, "text": f"{self.text} {n}"} for n in rows], last


class WideRows(GeneratorStep):
    """Rows like those of a finished Magpie dataset, about 1.6 kB each."""

    num_rows: int = 1000

    @property
    def outputs(self) -> list[str]:
        return ["uuid", "row", "instruction", "response", "messages", "config", "keep"]

    def process(self, offset: int = 0) -> Any:
        question, answer = "What is a row? " * 22, "A row is an answer. " * 63
        for first in range(offset, self.num_rows, self.batch_size):
            rows = [
                {
                    "uuid": f"{n:032x}",
                    "row": n,
                    "instruction": f"{n} {question}",
                    "response": f"{n} {answer}",
                    "messages": [
                        {"role": "user", "content": f"{n} {question}"},
                        {"role": "assistant", "content": f"{n} {answer}"},
                    ],
                    "config": {"temperature": 1.0, "top_p": 1.0, "seed": n},
                    "keep": True,
                }
                for n in range(first, min(first + self.batch_size, self.num_rows))
            ]
            yield rows, first + self.batch_size >= self.num_rows


class StampedNumbers(Numbers):
    """Says when each row was made."""

    @property
    def outputs(self) -> list[str]:
        return ["n", "made"]

    def process(self, offset: int = 0) -> Any:
        for rows, last in super().process(offset):
            yield [{**row, "made": time.monotonic()} for row in rows], last


class Unflagged(Numbers):
    """Never says which batch is the last one."""

    def process(self, offset: int = 0) -> Any:
        for rows, _ in super().process(offset):
            yield rows, False


class RaisingNumbers(Numbers):
    """Fails after its first batch."""

    def process(self, offset: int = 0) -> Any:
        rows, _ = next(super().process(offset))
        yield rows, False
        raise ConnectionError("the server went away")


class SleepingNumbers(Numbers):
    """Falls asleep after its first batch; says which process it is, and starts a child."""

    pid_file: str = ""

    def process(self, offset: int = 0) -> Any:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(self.pid_file).write_text(f"{os.getpid()} {child.pid}")
        rows, _ = next(super().process(offset))
        yield rows, False
        time.sleep(600)


class Plus(Step):
    """Adds a column."""

    column: str = "plus"

    @property
    def inputs(self) -> list[str]:
        return ["n"]

    @property
    def outputs(self) -> list[str]:
        return [self.column]

    def process(self, inputs: StepInput) -> Any:
        yield [{**row, self.column: self.value(row)} for row in inputs]

    def value(self, row: dict[str, Any]) -> Any:
        return row["n"] + 1


class Noted(Plus):
    """Has a setting that is empty."""

    note: str = ""


class Stamps(Plus):
    """Takes a while over each batch and says when it was done."""

    def process(self, inputs: StepInput) -> Any:
        time.sleep(0.2)
        yield [{**row, self.column: time.monotonic()} for row in inputs]


class SlowFirst(Plus):
    """The earlier a batch, the longer it takes: replicas overtake each other."""

    def process(self, inputs: StepInput) -> Any:
        time.sleep(0.3 if inputs[0]["n"] == 0 else 0.01)
        yield from super().process(inputs)


class LateColumn(Plus):
    """Empty for the first rows, then of a type; every other row lacks another column."""

    first: int = 60

    @property
    def outputs(self) -> list[str]:
        return ["text_or_none", "items", "config", "sometimes"]

    def process(self, inputs: StepInput) -> Any:
        yield [{**row, **self.columns_of(row["n"])} for row in inputs]

    def columns_of(self, n: int) -> dict[str, Any]:
        known = n >= self.first
        odd = {"sometimes": n} if n % 2 else {}
        return {
            "text_or_none": f"text {n}" if known else None,
            "items": [f"item {n}"] if known else [],
            "config": {"seed": n if known else None, "inner": {"x": None}, "tags": []},
            **odd,
        }


class MixedTypes(Plus):
    """A number in one row, a text in the next."""

    def value(self, row: dict[str, Any]) -> Any:
        return row["n"] if row["n"] % 2 else "text"


class Filter(Step):
    """Lets only rows below a number through."""

    below: int = 0

    @property
    def inputs(self) -> list[str]:
        return ["n"]

    @property
    def outputs(self) -> list[str]:
        return ["n"]

    def process(self, inputs: StepInput) -> Any:
        yield [row for row in inputs if row["n"] < self.below]


class LosesItsEngine(Plus):
    """Fails on every whole batch, and finds its engine gone at one row."""

    def process(self, inputs: StepInput) -> Any:
        if len(inputs) > 1:
            raise RuntimeError("too many at once")
        yield from super().process(inputs)

    def value(self, row: dict[str, Any]) -> Any:
        if row["n"] == 3:
            raise EngineLostError("the engine's process has ended")
        return super().value(row)


class YieldsTwice(Plus):
    """Yields its batch in two halves."""

    def process(self, inputs: StepInput) -> Any:
        rows = [{**row, self.column: self.value(row)} for row in inputs]
        yield rows[: len(rows) // 2]
        yield rows[len(rows) // 2 :]


class YieldsNothing(Plus):
    """Returns without a yield."""

    def process(self, inputs: StepInput) -> Any:
        yield from ()


class FailsOnRows(Plus):
    """Raises for some rows, or for every batch of more than one row."""

    bad: list[int] = Field(default_factory=list)
    only_in_batches: bool = False

    def process(self, inputs: StepInput) -> Any:
        for row in inputs:
            row["n"] = int(row["n"])
            row["scribble"] = "left behind by an attempt that failed"
        if self.only_in_batches and len(inputs) > 1:
            raise RuntimeError("too many at once")
        yield from super().process(
            [{k: v for k, v in row.items() if k != "scribble"} for row in inputs]
        )

    def value(self, row: dict[str, Any]) -> Any:
        if row["n"] in self.bad:
            raise ValueError(f"cannot do row {row['n']}")
        return super().value(row)


class TornText(Plus):
    """Half a surrogate pair in one row, alone and deep down, as a server's JSON may hold it."""

    def value(self, row: dict[str, Any]) -> Any:
        text = "half of \ud83d" if row["n"] == 3 else "whole \U0001f600"
        return {"text": text, "items": [text]}


class HoldsOn(Plus):
    """Says which process it is, then waits; takes seconds to end when it is told to."""

    pid_file: str = ""

    def process(self, inputs: StepInput) -> Any:
        Path(self.pid_file).write_text(str(os.getpid()))
        try:
            time.sleep(600)
        finally:
            time.sleep(3)
        yield inputs


class FailsOnce(Plus):
    """Raises for the first batch that it gets, as on a network that is away for a moment."""

    _failed: bool = PrivateAttr(default=False)

    def process(self, inputs: StepInput) -> Any:
        if not self._failed:
            self._failed = True
            raise ConnectionError("away for a moment")
        yield from super().process(inputs)


class Total(GlobalStep):
    """Adds the sum of all rows to each."""

    fail: bool = False

    @property
    def inputs(self) -> list[str]:
        return ["n"]

    @property
    def outputs(self) -> list[str]:
        return ["total"]

    def process(self, inputs: StepInput) -> Any:
        if self.fail:
            raise ArithmeticError("no total today")
        total = sum(row["n"] for row in inputs)
        yield [{**row, "total": total} for row in inputs]


class Join(Step):
    """Joins two branches by position."""

    @property
    def inputs(self) -> list[str]:
        return ["n"]

    @property
    def outputs(self) -> list[str]:
        return ["joined"]

    def process(self, *inputs: StepInput) -> Any:
        yield [{**left, **right, "joined": True} for left, right in zip(*inputs, strict=True)]


class KillsItself(Plus):
    """Its process dies on one row, as it would when memory runs out."""

    how: str = "kill"

    def value(self, row: dict[str, Any]) -> Any:
        if row["n"] == 3:
            if self.how == "exit":
                sys.exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().value(row)


class KillsTheLast(Plus):
    """While it works, the process is killed in which the last step will run."""

    def process(self, inputs: StepInput) -> Any:
        waiting = max(child.pid for child in psutil.Process(os.getppid()).children())
        os.kill(waiting, signal.SIGKILL)
        time.sleep(1)
        yield from super().process(inputs)


class GivesNone(FailsOnRows):
    """Has no answer for some rows and does not say why."""

    def value(self, row: dict[str, Any]) -> Any:
        return None if row["n"] in self.bad else row["n"] + 1


class FailsToLoad(Plus):
    """No model where it looks."""

    def load(self) -> None:
        super().load()
        raise FileNotFoundError("no model in /nowhere")


class FailsToUnload(Plus):
    """Raises when everything is done."""

    def unload(self) -> None:
        raise AttributeError("model_executor")


class Sleeps(Plus):
    """Takes for ever."""

    def process(self, inputs: StepInput) -> Any:
        time.sleep(600)
        yield inputs


class SendsUnpicklable(Plus):
    """Puts what cannot leave its process into a row."""

    def value(self, row: dict[str, Any]) -> Any:
        return lambda: row


class Talks(Plus):
    """Reports progress."""

    def process(self, inputs: StepInput) -> Any:
        self._logger.info("%d rows so far", len(inputs))
        self._logger.debug("not heard")
        yield from super().process(inputs)


class HoldsAThread(Plus):
    """Leaves a thread running that nobody joins."""

    def load(self) -> None:
        super().load()
        import threading

        threading.Thread(target=time.sleep, args=(600,)).start()


class HoldsALock(Plus):
    """Cannot be pickled."""

    _lock: Any = PrivateAttr(default_factory=lambda: __import__("threading").Lock())


class Journaled(Plus):
    """Holds an engine-like object."""

    llm: Any = None

    def value(self, row: dict[str, Any]) -> Any:
        return str(self.llm.path)


class EngineLike:
    """What `run_pipeline` knows of an engine."""

    path: Path | None = None

    def use_journal(self, path: Path | None) -> None:
        self.path = path
