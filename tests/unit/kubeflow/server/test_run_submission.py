"""Which tasks of a submitted run really run: what the cache keeps, and what Argo tries again."""

from twofold.orchestration.params_file import STEPS

EVERY = ["source-version", *(step.replace("_", "-") for step in STEPS), "notify"]
EVERY.insert(EVERY.index("train-head"), "check-gates")
ALWAYS = ["source-version", "register", "notify"]


def test_unchanged_work_is_taken_from_the_cache_and_changed_work_runs_from_there_on(server, cli):
    """As the server does: a task that runs gives its artifacts new ids, which are part of the keys behind it."""

    def ran(*words):
        cli("submit", *words)
        return server.ran[list(server.runs)[-1]]

    assert ran() == EVERY
    assert ran() == ALWAYS
    assert ran("-p", "finetune_all.epochs=2") == ["source-version", "finetune-all", "evaluate", "register", "notify"]
    assert ran("-p", "register.promotion=review") == ["source-version", "check-gates", "register", "notify"]
    assert ran("--force", "again") == EVERY
    assert ran("--force", "again") == ALWAYS
    server.cache.content = "images and one more"
    assert ran() == EVERY
    assert ran() == ALWAYS
    server.cache.content = "images"
    assert ran() == ALWAYS


def test_a_lost_pod_is_tried_again_and_a_failed_step_is_not(server, cli):
    """As with KFP's own settings of Argo; without them, it is the other way round."""

    def run(policy, *words, **endings):
        server.cache.retry_policy, server.cache.endings = policy, endings
        cli("submit", "--force", str(len(server.runs)), *words)
        return server.ran[list(server.runs)[-1]], server.cache.tries["ingest"]

    stopped = ["source-version", "ingest", "notify"]
    assert run("OnError", ingest=["lost", "lost"]) == (EVERY, 3)
    assert run("OnError", "--cpu", ingest=["lost", "lost"]) == (EVERY, 3)
    assert run("OnError", ingest=["failed"]) == (stopped, 1)
    assert run("OnError", ingest=["lost"] * 9) == (stopped, 4)
    assert run("OnFailure", ingest=["failed"]) == (EVERY, 2)
    assert run("OnFailure", ingest=["lost"]) == (stopped, 1)
