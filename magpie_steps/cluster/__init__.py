"""How does a run take place on a Ray cluster?

The calling process stays the only one that knows the run: it holds the work folder, the journal and
the rows, and hands out batches as it does on one machine. Ray chooses where processes run, sees to
their resources and tells when one is lost with its node:

- each replica of a step has an actor with the step's resources. It starts the step's process and
  watches it; the process calls back by TCP and runs the same loop as a forked one (`step_actor`);
- a step whose node or process is lost is started again elsewhere and gets again what it had not
  finished; its completions are in the journal;
- completions are sent to the calling process, which keeps them (`journals`);
- servers that steps share have an actor each, in a placement group of their own (`servers`).

Connections are authenticated with a key of the run's own. They are not encrypted: like Ray's own,
they belong into a network of their own.
"""
