"""How does a dataset's script run, from its flags to the output folder?

A script of ours declares a `Job`: its pipeline and what its rows depend on. Everything else is
here: flags, checks before anything is slow, one work folder per run that a second call goes on in,
the output folder, the summary and the exit code.
"""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.card.record import RunRecord
from magpie_steps.effort import Effort, effort_of
from magpie_steps.engines.journal import JournalError
from magpie_steps.job.flags import run_asked_for
from magpie_steps.job.reproduction import pipeline_yaml
from magpie_steps.job.run import Run, shown_model
from magpie_steps.prompts import category_prompts
from magpie_steps.provenance import Work, generated_so_far
from magpie_steps.redaction import redacted
from magpie_steps.repository import check_folder, write_repository
from magpie_steps.resume import claim
from magpie_steps.stored_rows import StoredRows
from magpie_steps.summary import Summary, counted, problem_of, summarise, table, timed
from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.folder_lock import locked
from magpie_steps.supervision.stop_signs import Terminated, termination_noticed

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

    from magpie_steps.running import RunResult
    from magpie_steps.templates import PreQueryTemplate


@dataclass(frozen=True)
class Job:
    """A dataset that a script makes.

    Attributes:
        name: The dataset's name, also of its default output folder under ``data``.
        build: Returns the pipeline of a run.
        settings: What the rows depend on besides models, seed and number, for the card.
        models: The flags of models that it takes, see `magpie_steps.job.run.MODELS`; those of a
            tagger and an embedder as well if it has a recipe.
        recipe: The recipe that chooses its rows unless another is asked for, "" if none does.
        mix: How often each system prompt is drawn, by key; empty without system prompts.
        exports: The kept rows in trainers' formats, see `write_repository`.
        num_rows: Rows by default.
    """

    name: str
    build: Callable[[Run], "Pipeline"]
    settings: Mapping[str, Any]
    models: tuple[str, ...] = ("model",)
    recipe: str = ""
    mix: Mapping[str, float] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    num_rows: int = 200

    @property
    def script(self) -> str:
        """The script's name, for error lines."""
        return self.name.replace("-", "_")

    def settings_of(self, run: Run) -> dict[str, Any]:
        """Return what the rows depend on; more rows of the same settings extend a dataset.

        A recipe chooses among rows and is not part of it.
        """
        models = {flag: shown_model(model) for flag, model in run.models.items()}
        own = {**models, "seed": run.seed, **self.settings, **run.prompting.settings}
        # Which rows a shard's are depends on how many all shards have.
        divided = {"num_rows": run.all_rows, "shard": str(run.shard)} if run.shard else {}
        return {**own, **divided}

    def main(self, description: str | None, arguments: Sequence[str] | None = None) -> int:
        """Run the job.

        Returns:
            The exit code: 0, 1 if rows are missing, 2 if it cannot start, 130 and 143 if it was
            interrupted or terminated.
        """
        try:
            with termination_noticed():
                return self._main(description, arguments)
        except KeyboardInterrupt:
            return self._fail("interrupted; the same command goes on from here", code=130)
        except Terminated:
            return self._fail("terminated; the same command goes on from here", code=143)

    def _main(self, description: str | None, arguments: Sequence[str] | None) -> int:
        try:
            run = run_asked_for(self, (description or "").partition("\n")[0], arguments)
        except (OSError, ValueError) as error:
            return self._fail(error, code=2)
        with ExitStack() as stack:
            try:
                check_folder(run.output_dir)
                # Until the output folder is written, which a second run would write at once.
                stack.enter_context(locked(run.work_dir))
                claim(run.work_dir, self.settings_of(run), run.output_dir)
            except OSError as error:
                # What is raised about the output folder is raised here, without a file's name.
                place = run.work_dir if error.filename else run.output_dir
                reason = f"cannot write {place}: {error.strerror or error}"
                return self._fail(reason, code=2)
            except (PipelineRunError, ValueError) as error:
                return self._fail(error, code=2)
            try:
                return self._run(run)
            except (PipelineRunError, JournalError) as error:
                hint = "" if "goes on" in str(error) else "; the same command goes on from here"
                return self._fail(f"{error}{hint}", code=1)
            except OSError as error:
                reason = f"{error}; make room or mend that: the same command goes on from here"
                return self._fail(reason, code=1)

    def _run(self, run: Run) -> int:
        """Make the rows and the output folder; return the exit code."""
        journal = run.work_dir / "journal.sqlite"
        before = generated_so_far(journal)
        # First of all this, as it imports distilabel without its warnings.
        run_pipeline = magpie_steps.run_pipeline
        pipeline = self.build(run)
        result = run_pipeline(
            pipeline, work_dir=run.work_dir, expected_rows=run.num_rows, ray=run.ray
        )
        work = generated_so_far(journal).since(before)
        summary = self._write(run, pipeline, result, work)
        if problem := problem_of(summary):
            return self._fail(problem, code=1)
        code = self._push(run) if run.hub_repo_id else 0
        return code or (self._send_to_review(run) if run.argilla_dataset else 0)

    def _write(self, run: Run, pipeline: "Pipeline", result: "RunResult", work: Work) -> Summary:
        """Write the output folder and say what is in it."""
        rows = StoredRows(result.dataset)
        summary = summarise(rows)
        effort = effort_of(
            result.seconds, result.cpu_seconds, work.completions, work.tokens, work.engines
        )
        record = self._record(run, pipeline, rows[0], work, effort)
        write_repository(
            run.output_dir,
            rows,
            summary,
            record,
            self.exports,
            run.recipe,
            embeddings=run.store_dir if run.with_embeddings else None,
            evaluation_sets=run.evaluation_sets,
        )
        lines = [*counted(summary, self.mix), *timed(summary, effort)]
        print(f"{table(lines)}\n\ndatasets.load_dataset({str(run.output_dir)!r}) opens them")
        return summary

    def _record(
        self,
        run: Run,
        pipeline: "Pipeline",
        first: Mapping[str, Any],
        work: Work,
        effort: Effort,
    ) -> RunRecord:
        template = _template(run)
        steered = first["system_prompt_key"]
        asked = first["gen_input_configs"]
        prompts = {key: (weight, category_prompts()[key]) for key, weight in self.mix.items()}
        return RunRecord(
            title=run.output_dir.name,
            model=first["model"],
            settings={
                **self.settings_of(run),
                "model": first["model"],
                "num_rows": run.all_rows,
                **{name: asked[name] for name in ("chat_template_sha256", "pre_query_form")},
            },
            # The row's has the date that the chat template printed, if it prints one.
            template=template.pre_query if steered else asked["pre_query_template"],
            bare_template=template.bare_pre_query,
            effort=effort,
            models=run.models_used,
            system_prompts=prompts,
            engines=work.engines,
            completions_of_all_runs=work.all_runs,
            remarks=run.remarks,
            license=run.license,
            command=run.command,
            pipeline=pipeline_yaml(pipeline, run.places),
        )

    def _push(self, run: Run) -> int:
        """Push the output folder to the Hub; return the exit code."""
        from magpie_steps.publish import PublishError, push  # slow, and only for this

        try:
            push(run.output_dir, run.hub_repo_id, public=run.public, say=print)
        except (OSError, PublishError, ValueError) as error:
            public = ["--public"] if run.public else []
            return self._fail_for_now(error, "push", run.output_dir, run.hub_repo_id, *public)
        return 0

    def _send_to_review(self, run: Run) -> int:
        """Send a sample of the rows to Argilla; return the exit code."""
        from magpie_steps.review.push import push  # slow, and only for this

        try:
            pushed = push(
                run.output_dir,
                run.argilla_dataset,
                run.argilla_sample,
                workspace=run.argilla_workspace or None,
                uncertain=run.argilla_uncertain,
                say=print,
            )
        except (OSError, ValueError) as error:
            return self._fail_for_now(error, "review", "push", *_review_arguments(run))
        print(f"{table(pushed.lines())}\n\n{pushed.url}")
        return 0

    def _fail_for_now(self, error: Exception, *command: object) -> int:
        """Say what did not work at the end of a run and which command does it later."""
        again = shlex.join(["magpie-steps", *map(str, command)])
        return self._fail(f"{error}; nothing is lost: `{again}` goes on", code=1)

    def _fail(self, reason: object, *, code: int) -> int:
        """Say in one line why it does not work, without any secret; return the exit code."""
        line = redacted(" ".join(str(reason).split()))
        print(f"{self.script}: error: {line}", file=sys.stderr)
        return code


def conversation_job(name: str, settings: Mapping[str, Any]) -> Job:
    """Return the job of a dataset that one `ConversationGenerator` writes with these settings."""
    several = settings.get("n_turns", 1) > 1
    return Job(
        name=name,
        build=partial(_build_conversations, name, settings),
        settings=settings,
        exports=("sft", "multi_turn") if several else ("sft",),
    )


def _build_conversations(name: str, settings: Mapping[str, Any], run: Run) -> "Pipeline":
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name=name) as pipeline:
        conversations = magpie_steps.ConversationGenerator(
            llm=run.engine(),
            num_rows=run.num_rows,
            first_row=run.first_row,
            seed=run.seed,
            keep_reasoning=run.keep_reasoning,
            **settings,
        )
        conversations >> magpie_steps.LanguageTagger()
    return pipeline


def _review_arguments(run: Run) -> list[object]:
    """Return what `magpie-steps review push` takes to send a run's sample."""
    place = ["--argilla-workspace", run.argilla_workspace] if run.argilla_workspace else []
    uncertain = ["--uncertain", run.argilla_uncertain] if run.argilla_uncertain else []
    sample = ["--sample", run.argilla_sample]
    return [run.output_dir, run.argilla_dataset, *sample, *place, *uncertain]


def _template(run: Run) -> "PreQueryTemplate":
    """Return the pre-query template of the model that writes."""
    if not run.scripted:
        from magpie_steps.engines.identity import template_of  # slow: after the run it is there

        options = run.prompting.template_options
        return template_of(run.models["model"], run.trust_remote_code, **options)
    engine = magpie_steps.ScriptedEngine()
    engine.load()
    try:
        found: PreQueryTemplate = engine.template
        return found
    finally:
        engine.unload()
