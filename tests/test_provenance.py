from magpie_steps import __version__
from magpie_steps.engines.journal import Journal
from magpie_steps.provenance import Work, generated_so_far, versions


def test_versions_name_what_can_change_a_row():
    found = versions()
    assert found["magpie-steps"] == __version__
    assert found["distilabel"] == "1.5.3"
    assert {"python", "torch", "transformers"} <= set(found)


def test_no_journal_means_nothing_generated(tmp_path):
    assert generated_so_far(tmp_path / "journal.sqlite") == Work()
    assert not (tmp_path / "journal.sqlite").exists()


def test_generated_completions_are_counted_over_all_runs(tmp_path):
    path = tmp_path / "journal.sqlite"
    for run, keys in (("one", [b"a", b"b"]), ("two", [b"c"])):
        journal = Journal(path, run_id=run)
        for key in keys:
            journal.record(key, ("text", (1, 2), "stop", 2, 3, 2))
        journal.close()
    assert generated_so_far(path) == Work(3, 6, all_runs=3)
    assert generated_so_far(path).since(Work(1, 2)) == Work(2, 4, all_runs=3)


def test_what_engines_report_is_read_for_this_run_alone(tmp_path):
    path = tmp_path / "journal.sqlite"
    for run in ("one", "two"):
        journal = Journal(path, run_id=run)
        journal.report("m", {"retries": len(run)})
        journal.report("n", {"retries": 0})
        journal.close()
        if run == "one":
            before = generated_so_far(path)
    assert generated_so_far(path).since(before).engines == (
        {"model": "m", "retries": 3},
        {"model": "n", "retries": 0},
    )
