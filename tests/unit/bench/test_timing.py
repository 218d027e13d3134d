"""The framework of the benchmarks: which rounds count, how a result is computed, and the page that shows it."""

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest

from bench.harness import results_page, timing
from bench.harness.benchmarks import BENCHMARKS, Goal, select_benchmarks
from bench.harness.hardware import describe_machine, has_changes, short_gpu_name
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.results import (
    format_comparison,
    format_number,
    format_result,
    load_comparisons,
    save_comparisons,
)
from bench.harness.timing import TRIAL, Comparison, Limit, compare
from bench.studies import training_profile

ROOT = Path(__file__).resolve().parents[3]
STEADY = Comparison(
    name="B3",
    work="steps",
    ours="ours, fast",
    peer="theirs, slow",
    seconds_ours=[2.0, 2.5, 1.0],
    seconds_peer=[8.0, 5.0, 5.0],
    goal=Goal(ratio=4),
    equal="the same to 0.001 (at most 0.01)",
    part="a",
    images=100,
    limit=Limit(0.5, "by a count of operations"),
    thrown=[(2.0, 9.0)],
    memory=2**20,
    growth=5000.0,
)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.delenv(TRIAL, raising=False)
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")


def compare_times(monkeypatch, ours, peer):
    """`compare` where each side takes the given seconds, round by round."""
    seconds = {"ours": iter(ours), "peer": iter(peer)}
    monkeypatch.setattr(timing, "measure_seconds", lambda side: next(seconds[side]))

    def side(name):
        class Side(str):
            def __call__(self):
                return None

        return Side(name)

    return compare("B3", "work", part="b", ours=("o", side("ours")), peer=("p", side("peer")), equal="yes")


def test_a_result_is_the_median_of_the_rounds_ratios_with_their_range():
    assert STEADY.ratios == [4.0, 2.0, 5.0]
    assert STEADY.ratio == 4.0
    assert STEADY.seconds == 2.0
    assert STEADY.rate == 50.0
    assert STEADY.fraction == 0.25
    assert format_result(STEADY) == "4.00x (2.00 to 5.00), 50.0 images/s, 1 MiB, 5.0 kB more per image"
    single = dataclasses.replace(STEADY, seconds_ours=[2.0], seconds_peer=[8.0])
    assert format_result(single).startswith("4.00x (one round), ")
    assert [format_number(value) for value in (0.12345, 1.239, 12.39, 123.9, 12345.6)] == [
        "0.123",
        "1.24",
        "12.4",
        "124",
        "12,346",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # The compiler names a kernel after everything that it fuses.
        ("triton_poi_fused__to_copy_add_convolution_backward_61", "fused by the compiler"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("aten::copy_", "copies"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "convolutions and products"),
        ("nvjet_sm90_tst_256x128_64x4_1x2_h_bx_coopA_relubias_TNT", "convolutions and products"),
        ("aten::convolution_backward", "convolutions and products"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::max_pool2d_with_indices", training_profile.OTHER),
    ],
)
def test_a_kernel_is_classified_by_its_name(name, kind):
    assert training_profile.kernel_kind(name) == kind


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        (Goal(), None),
        (Goal(ratio=4), True),
        (Goal(ratio=4.01), False),
        (Goal(seconds=2), True),
        (Goal(ratio=4, seconds=1.9), False),
        (Goal(rate=50), True),
        (Goal(ratio=4, rate=51), False),
        (Goal(memory=2**20), True),
        (Goal(memory=2**20 - 1), False),
        (Goal(growth=5000), True),
        (Goal(ratio=4, growth=4999), False),
    ],
)
def test_a_goal_is_reached_when_all_its_conditions_are(goal, reached):
    assert dataclasses.replace(STEADY, goal=goal).reached is reached


def test_rounds_in_which_the_peer_deviates_are_run_again_and_listed(monkeypatch):
    # The median of the peer is 10: 11 is 10 % off and counts, 11.2 and 8.9 do not.
    found = compare_times(monkeypatch, [1, 2, 3, 4, 5, 6, 7], [10, 11, 11.2, 10, 8.9, 10, 9.5])
    assert found.seconds_ours == [1, 2, 4, 6, 7]
    assert found.seconds_peer == [10, 11, 10, 10, 9.5]
    assert found.thrown == [(3, 11.2), (5, 8.9)]
    assert found.goal == Goal(1.15)


def test_rounds_of_different_seeds_all_count(monkeypatch):
    seconds = iter([1.0, 10.0, 2.0, 30.0, 3.0, 20.0])
    monkeypatch.setattr(timing, "measure_seconds", lambda side: next(seconds))
    sides = {"ours": ("o", lambda: None), "peer": ("p", lambda: None)}
    found = compare("B4", "work", part="a", equal="yes", rounds=3, same_work=False, **sides)
    assert found.ratios == [10.0, 15.0, 20.0 / 3]
    assert found.thrown == []


def test_times_that_vary_too_much_give_no_result(monkeypatch):
    with pytest.raises(SystemExit, match=r"B3 b: the peer took 1\.00, 2\.00, 4\.00.* s, which varies too much"):
        compare_times(monkeypatch, [1] * 15, [1, 2, 4, 8, 16] * 3)


def test_a_short_benchmark_needs_five_rounds_a_long_one_or_a_trial_only_one(monkeypatch):
    def run(name, count):
        sides = {"ours": ("o", lambda: None), "peer": ("p", lambda: None)}
        monkeypatch.setattr(timing, "measure_seconds", lambda side: 1.0)
        part = next(iter(BENCHMARKS[name].parts))
        return len(compare(name, "work", part=part, equal="yes", rounds=count, **sides).ratios)

    with pytest.raises(ValueError, match="rounds: 4; B3 is a short benchmark"):
        run("B3", 4)
    assert run("B3", 5) == 5
    assert run("B8", 1) == 1
    monkeypatch.setenv(TRIAL, "1")
    assert run("B3", 5) == 1


def test_benchmarks_are_selected_by_name_or_by_length():
    assert select_benchmarks([], long=False) == ["B1", "B2", "B3", "B5", "B6", "B7", "B10"]
    assert set(select_benchmarks([], long=True)) >= {"B4", "B8", "B9", "B11"}
    assert select_benchmarks(["B3", "B5"], long=False) == ["B3", "B5"]
    with pytest.raises(SystemExit, match="no benchmark B12; there are B1, B2"):
        select_benchmarks(["B12"], long=False)


def multiply(factor):
    """Prepares a peer."""

    def work(value):
        return factor * value

    return work


def test_the_peer_works_in_a_process_of_its_own_and_its_failure_is_reported():
    peer = IsolatedProcess(multiply, 2)
    assert peer(21) == 42
    with pytest.raises(SystemExit, match=r"the peer failed:\n(.|\n)*TypeError"):
        peer()
    peer.close()


def start_method():
    """Prepares a peer."""
    return multiprocessing.get_start_method


def test_the_peer_starts_its_workers_like_a_command():
    peer = IsolatedProcess(start_method)
    assert peer() == multiprocessing.get_start_method()
    peer.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla T4", "teslat4"),
    ],
)
def test_a_gpu_has_a_short_name(name, expected):
    assert short_gpu_name(name) == expected


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr("bench.harness.hardware.PACKAGES", ("numpy", "no-such-package-as-this"))
    assert list(describe_machine()["versions"]) == ["python", "numpy"]


def test_changed_results_alone_do_not_count_as_changes():
    assert not has_changes("none")
    assert not has_changes("bench/results/cpu/B3.json, bench/README.md, docs/benchmarks.md")
    assert has_changes("bench/results/cpu/B3.json, bench/harness/timing.py")


def test_a_result_is_read_as_it_was_written(tmp_path):
    path = save_comparisons("B3", [STEADY], tmp_path)
    assert path == tmp_path / "cpu" / "B3.json"
    comparisons, where = load_comparisons(path)
    assert comparisons == [STEADY]
    assert where["hardware"] == "cpu"
    assert json.loads(path.read_text())["command"] == "python -m bench B3"
    assert "goal >= 4x: reached" in format_comparison(STEADY)
    assert "NOT reached" in format_comparison(dataclasses.replace(STEADY, goal=Goal(5)))


def test_the_page_has_a_column_for_each_hardware_with_missed_goals_and_missing_results(tmp_path):
    other = dataclasses.replace(STEADY, part="b", goal=Goal(5), thrown=[])
    path = save_comparisons("B3", [STEADY, other], tmp_path)
    found = json.loads(path.read_text())
    found["machine"]["hardware"] = "h200"
    (tmp_path / "h200").mkdir()
    (tmp_path / "h200" / "B3.json").write_text(json.dumps(found))
    text = results_page.render_page(results_page.read_results(tmp_path), "## Notes\n\nsome")
    lines = [line for line in text.splitlines() if line.startswith("| B")]
    assert "| cpu: result; goal | h200: result; goal |" in text
    (a,) = [line for line in lines if line.startswith("| B3 a ")]
    words = "**4.00x (2.00 to 5.00), 50.0 images/s, 1 MiB, 5.0 kB more per image**, 25% of the limit"
    # The goals are those of BENCHMARKS, not those of the day of the measurement.
    assert f"{words}; no goal | {words}; goal >= 5x: NOT reached |" in a
    (b,) = [line for line in lines if line.startswith("| B3 b ")]
    assert b.count(": reached") == 2
    (b5,) = [line for line in lines if line.startswith("| B5 ")]
    assert b5.endswith("| goal >= 0.98x | goal >= 0.98x |")
    assert [line.endswith("| goal >= 32x |  |") for line in lines if line.startswith("| B2 a ")] == [True]
    assert "- B3 a: not examined yet." in text
    assert "- h200: only B3 are measured" in text
    assert "n = 3, 1 discarded; equal work: the same to 0.001" in text
    assert text.endswith("some\n")
    (tmp_path / "h100").mkdir()
    (tmp_path / "h100" / "B3.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit, match=r"h100/B3.json: was measured on h200"):
        results_page.read_results(tmp_path)


def test_results_of_unknown_parts_are_refused(tmp_path):
    save_comparisons("B3", [STEADY], tmp_path)
    with pytest.raises(SystemExit, match=r"B3.json: parts \['a'\] are not those of B3"):
        results_page.read_results(tmp_path)


def test_a_part_without_a_goal_may_be_unmeasured(tmp_path):
    fp32, bf16, int8 = (dataclasses.replace(STEADY, name="B6", part=part) for part in BENCHMARKS["B6"].parts)
    save_comparisons("B6", [fp32, int8], tmp_path)
    with pytest.raises(SystemExit, match=r"B6.json: parts \['fp32', 'int8'\] are not those of B6"):
        results_page.read_results(tmp_path)
    save_comparisons("B6", [bf16, int8], tmp_path)
    lines = results_page.render_table(results_page.read_results(tmp_path), include_unmeasured=False).splitlines()
    assert [line.endswith("|  |") for line in lines if line.startswith("| B6 ")] == [True, False, False]
    assert [line.count("**4.00x") for line in lines if line.startswith("| B6 ")] == [0, 1, 1]


def test_the_page_in_the_repository_is_made_from_its_results():
    made = results_page.render_page(results_page.read_results(), results_page.NOTES.read_text(encoding="utf-8"))
    assert results_page.PAGE.read_text(encoding="utf-8") == made, "run: python -m bench.harness.results_page"
    reasons = made[made.index("What stands in the way") : made.index("## On cpu")]
    assert made.count(": NOT reached") == reasons.count("\n- B") > reasons.count("not examined yet") == 0
    summary = results_page.SUMMARY.read_text(encoding="utf-8")
    assert summary == results_page.replace_table(summary, results_page.read_results()), (
        "run: python -m bench.harness.results_page"
    )


def test_the_page_lists_benchmarks_without_results_and_the_documentation_does_not():
    assert "| B11 evaluate |" in results_page.render_table({}, include_unmeasured=True)
    assert "| B11 evaluate |" not in results_page.render_table({}, include_unmeasured=False)


def test_only_the_table_between_the_marks_is_replaced():
    text = f"before\n\n{results_page.BEGIN}\n\nstale\n\n{results_page.END}\nafter\n"
    made = results_page.replace_table(text, results_page.read_results())
    assert made.startswith("before\n")
    assert made.endswith(f"{results_page.END}\nafter\n")
    assert "stale" not in made
    assert "\n| B10 dvc repro |" in made
    with pytest.raises(SystemExit, match="has no <!-- speed"):
        results_page.replace_table("no marks", {})
