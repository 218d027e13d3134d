"""The text of `twofold models`, from values."""

from twofold.metrics.number_format import NOTHING
from twofold.registry import version_text

LIBRARIES = {f"library{number}": "1.0" for number in range(6)}
ENTRY = {
    "number": 2,
    "version": 2,
    "champion": 1,
    "action": "promote",
    "time": "2030-01-01",
    "actor": "ann",
    "reason": "better",
    "note": "",
}
PAIRED = {
    "problem": "",
    "n": 40,
    "figures": {
        "accuracy": {"candidate": 0.9, "champion": 0.8, "low": -0.05, "high": 0.25},
        "f1": {"candidate": 0.5, "champion": 0.75, "no_interval": f"why {'it ' * 20}has none"},
    },
    "mcnemar": {"candidate_only": 7, "champion_only": 3, "p_value": 0.34375},
    "left_out": {"candidate_train": 0, "champion_train": 2, "champion_validation": 1},
}


def format_list(versions):
    return version_text.format_table(version_text.list_rows(versions)).replace(NOTHING, "-").splitlines()


def test_a_list_has_one_aligned_line_per_version():
    version = {
        "version": 10,
        "standing": "champion",
        "foreign": False,
        "figures": {"f1": 0.5, "accuracy": 0.25},
        "n": 40,
        "made": 60_000,
        "commit": "c" * 40,
        "data_fingerprint": "d" * 64,
    }
    bare = dict.fromkeys(version) | {"version": 9, "standing": "", "figures": {"roc_auc": 0.999}}
    foreign = bare | {"version": 8, "foreign": True, "figures": {}}
    expected = [
        "version status         accuracy f1    roc_auc images created    commit  data",
        "10      champion       0.250    0.500 -       40     1970-01-01 ccccccc ddddddd",
        "9       -              -        -     0.999   -      -          -       -",
        "8       not by Twofold -        -     -       -      -          -       -",
    ]
    versions = [version, bare, foreign]
    assert format_list(versions) == expected
    # Whichever version is the latest, the columns are the same.
    assert format_list(versions[::-1]) == [expected[0], *expected[:0:-1]]
    assert format_list([version | {"foreign": True}])[1].startswith("10       champion, not by Twofold  0.250")


def test_a_version_is_described_in_paragraphs():
    gates = [
        {"applies": True, "passed": True, "name": "a", "detail": "d"},
        {"applies": True, "passed": False, "name": "b", "detail": "e"},
        {"applies": False, "passed": True, "name": "c", "detail": "f"},
    ]
    version = {
        "version": 2,
        "name": "corner",
        "standing": "champion",
        "foreign": False,
        "judged_against": "1",
        "test_reuse": "candidate 2 on these test images, 1 promoted before",
        "gates": gates,
        "figures": {"accuracy": 0.5, "n": 40.0},
        "decisions": [ENTRY],
        "lineage": {"git": {"commit": "a" * 40, "changed": "no"}, "libraries": LIBRARIES, "params": {}},
        "links": {"run": "there"},
    }
    assert version_text.format_version(version).splitlines() == [
        "version 2 of 'corner': champion",
        "",
        "gates (compared with version 1)",
        "  candidate 2 on these test images, 1 promoted before",
        "  passed          a: d",
        "  FAILED          b: e",
        "  does not apply  c: f",
        "",
        "metrics on its test images",
        "  accuracy  0.5000",
        "  n         40",
        "",
        "decisions",
        "     2  2030-01-01  promote     version 2, champion before: 1, by ann: better",
        "",
        "lineage",
        "  git commit   aaaaaaaaaaaa",
        "  git changed  no",
        "  libraries    library0 1.0, library1 1.0, library2 1.0, library3 1.0, library4",
        "               1.0, library5 1.0",
        "",
        "links",
        "  run  there",
    ]
    nothing = {"standing": "", "judged_against": None, "test_reuse": None, "gates": [], "decisions": []}
    bare = version | nothing | {"lineage": {"base": 5}}
    text = version_text.format_version(bare)
    for words in ("neither champion", "no champion to compare with)\n  none recorded", "decisions\n  none", "base  5"):
        assert words in text


def test_a_long_list_of_names_is_shortened():
    names = [f"n{number}" for number in range(10)]
    assert version_text.shorten_names(", ".join(names)).endswith("n7 and 2 more")
    assert version_text.shorten_names(", ".join(names[:8])).endswith("n7")


def test_two_versions_are_compared_on_the_same_images_on_their_own_and_by_lineage():
    own = [{"n": n, "figures": {"accuracy": value, "roc_auc": 0.5}} for n, value in ((50, 0.9), (60, 0.8))]
    del own[1]["figures"]["roc_auc"]
    comparison = {
        "versions": [2, 1],
        "standings": ["champion", ""],
        "same_test": False,
        "same_images": PAIRED,
        "own_tests": own,
        "made_differently": {"seed": [0, None], "digests.head": ["a" * 64, "b" * 64], "gates": [[1], ["x" * 30]]},
    }
    assert version_text.format_comparison(comparison).replace(NOTHING, "-").splitlines() == [
        "version 2 (champion) and version 1",
        "",
        "on 40 images, the test images that both have answered",
        "  metric    version 2  version 1  difference  95 % interval",
        "  accuracy  0.9000     0.8000     +0.1000     -0.0500 to +0.2500",
        "  f1        0.5000     0.7500     -0.2500     see below",
        "  f1, 95 % interval: why it it it it it it it it it it it it it it it it it it",
        "    it it has none",
        "  only version 2 is right on 7 of them, only version 1 on 3 (McNemar: p = 0.344)",
        "  left out because a model has learned from them: 2 in train of version 1, 1 in",
        "    validation of version 1",
        "",
        "each on its own test images (not comparable)",
        "  metric    version 2, 50 images  version 1, 60 images",
        "  accuracy  0.9000                0.8000",
        "",
        "differences in lineage",
        "                version 2     version 1",
        "  seed          0             -",
        "  digests.head  aaaaaaaaaaaa  bbbbbbbbbbbb",
        "  gates         [1]           see below",
        f"  gates, version 1: ['{'x' * 30}']",
    ]
    text = version_text.format_comparison(comparison | {"same_test": True, "made_differently": {}})
    assert "the test images of both" in text
    assert "its own test images" not in text
    assert text.endswith("differences in lineage\n  none recorded")


def test_versions_that_cannot_be_compared_are_named():
    assert "no test image in common" in version_text.format_paired(None, "", "a", "b")
    assert "cannot be compared: why" in version_text.format_paired(PAIRED | {"problem": "why"}, "", "a", "b")


def test_a_history_has_entries_then_what_is_wrong():
    rejected = ENTRY | {"number": 3, "action": "reject", "note": "late"}
    cleared = ENTRY | {"version": None, "champion": None, "number": 4}
    history = {"name": "corner", "entries": [rejected], "void": [cleared], "acknowledged": ["a"], "problems": ["b"]}
    assert version_text.format_history(history | {"unfinished": False}).splitlines() == [
        "   3  2030-01-01  reject      version 2, by ann: better [late]",
        "void, written under a lock that had been taken over:",
        "   4  2030-01-01  promote     no model, champion before: none, by ann: better",
        "acknowledged: a",
        "WRONG: b",
    ]
    nothing = dict.fromkeys(("entries", "void", "acknowledged", "problems"), ())
    text = version_text.format_history({"name": "corner", "unfinished": True} | nothing)
    assert text.startswith("'corner' has no ledger yet\nthe aliases are not set")


def test_a_check_has_a_line_for_each_difference():
    checks = [{"verdict": "verified", "name": "a", "detail": "b", "differences": ["c", "d"]}]
    assert version_text.format_checks(checks) == "verified     a: b\n               c\n               d"
