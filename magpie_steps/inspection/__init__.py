"""Does a model's chat template serve Magpie, and what comes out of it?

A template is found (`sources`), tried out (`findings`), judged (`verdict`) and shown: to a person
(`display`), to a program (`record`).
"""

from magpie_steps.inspection.display import display
from magpie_steps.inspection.record import record
from magpie_steps.inspection.sources import Source, read_source
from magpie_steps.inspection.verdict import Judgement, Verdict, judge

__all__ = ["Judgement", "Source", "Verdict", "display", "judge", "read_source", "record"]
