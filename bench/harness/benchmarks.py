"""The benchmarks B1 to B11: what is timed, beside what, and what is asked of it on a CPU and on a GPU.

The goals stand here and nowhere else; B10's in seconds are those of a laptop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.harness.memory import MIB

DEFAULTS = "torch's and torchvision's defaults"  # as most people write them
TIMM = "timm's train.py with --amp --amp-dtype bfloat16 --channels-last"


LINEAR = "the same at fewer images, times as many"


@dataclass(frozen=True)
class Goal:
    """What must hold, all of it; nothing is asked where a value is None.

    Attributes:
        ratio: at least so many times as fast as the peer.
        seconds: a round of ours takes at most so long.
        rate: ours does at least so many images a second.
        memory: all processes of ours together hold at most so many bytes.
        growth: their memory grows by at most so many bytes an image.
    """

    ratio: float | None = None
    seconds: float | None = None
    rate: float | None = None
    memory: float | None = None
    growth: float | None = None

    def __str__(self) -> str:
        words = [
            f">= {self.ratio:g}x" if self.ratio is not None else "",
            f"<= {self.seconds:g} s" if self.seconds is not None else "",
            f">= {self.rate:,.0f} images/s" if self.rate is not None else "",
            f"<= {self.memory / MIB:,.0f} MiB" if self.memory is not None else "",
            f"<= {self.growth / 1000:g} kB an image" if self.growth is not None else "",
        ]
        return ", ".join(filter(None, words)) or "none set"


@dataclass(frozen=True)
class Part:
    """One comparison of a benchmark: its peer in words, and the goals on a CPU and on a GPU."""

    peer: str
    cpu: Goal = Goal()
    gpu: Goal = Goal()

    def goal(self, hardware: str) -> Goal:
        """The goal on hardware as `machine.hardware` names it."""
        return self.cpu if hardware == "cpu" else self.gpu


@dataclass(frozen=True)
class Benchmark:
    """A module of this package with a `run() -> list[Comparison]`, one for each of its parts.

    Attributes:
        module: its name.
        work: in words.
        parts: name -> what it is compared with; the only part of a benchmark may be nameless.
        long: takes too long to be run five times, so it is not in `make bench`.
    """

    module: str
    work: str
    parts: Mapping[str, Part]
    long: bool = False


BENCHMARKS: Mapping[str, Benchmark] = {
    "B1": Benchmark(
        "bench.benchmarks.b01_preprocessing",
        "preprocess, cold",
        {
            "JPEG 500x375": Part(DEFAULTS, Goal(2.2)),
            "JPEG 2000x1500": Part(DEFAULTS, Goal(3.5)),
            "PNG 300x300": Part(DEFAULTS, Goal(1.6)),
        },
    ),
    "B2": Benchmark(
        "bench.benchmarks.b02_head",
        "train_head, 10 epochs",
        {
            "a": Part(f"the frozen base in every epoch; {DEFAULTS}", Goal(32)),
            "b": Part("the same in bf16, channels_last", Goal(9)),
        },
    ),
    "B3": Benchmark(
        "bench.benchmarks.b03_finetuning",
        "fine-tuning steps, all layers, 224 px",
        {"a": Part(DEFAULTS, Goal(3.7), Goal(5)), "b": Part(TIMM, Goal(1.15), Goal(1.3))},
    ),
    "B4": Benchmark(
        "bench.benchmarks.b04_convergence",
        "fine-tuning to the same ROC-AUC",
        {"a": Part(DEFAULTS, Goal(6)), "b": Part(TIMM, Goal(2))},
        long=True,
    ),
    "B5": Benchmark(
        "bench.benchmarks.b05_data_loading",
        "training from the prepared arrays",
        {"": Part("the same steps on one resident batch", Goal(0.98), Goal(0.98))},
    ),
    "B6": Benchmark(
        "bench.benchmarks.b06_inference",
        "scoring, as evaluate, predict and an exported file do",
        {
            "fp32": Part(f"the evaluation loop of {DEFAULTS}"),
            "bf16": Part(f"the evaluation loop of {DEFAULTS}", Goal(3.6), Goal(6, rate=20_000)),
            "int8": Part(f"the evaluation loop of {DEFAULTS}"),  # on a CPU
        },
    ),
    "B7": Benchmark(
        "bench.benchmarks.b07_batches",
        "batches from the prepared arrays, augmented and normalised, on one core",
        {
            "loader": Part("ImageFolder in a DataLoader with 2 workers", Goal(12)),
            "step": Part("a training step on the same images (50x is 2 % of it)", Goal(50)),
        },
    ),
    "B8": Benchmark(
        "bench.benchmarks.b08_pipeline",
        "the whole pipeline, 2,624 images, from process start",
        {"": Part(f"six scripts of {DEFAULTS}, same epochs", Goal(5), Goal(seconds=40))},
        long=True,
    ),
    "B9": Benchmark(
        "bench.benchmarks.b09_incremental_data",
        "1 % new data, run again: fetch, decode, features",
        {memory: Part("all of it again", Goal(20)) for memory in ("memory as found", "memory at hand")},
        long=True,
    ),
    "B10": Benchmark(
        "bench.benchmarks.b10_startup",
        "commands with nothing to do",
        {
            "twofold --help": Part("the same command importing torch", Goal(seconds=0.3)),
            "dvc repro": Part("the same command importing torch", Goal(seconds=3)),
        },
    ),
    "B11": Benchmark(
        "bench.benchmarks.b11_scaling",
        "time and memory of the steps as images grow in number",
        {
            step: Part(LINEAR, goal, goal)
            for step, goal in {
                "ingest": Goal(0.9, memory=1024 * MIB),
                "preprocess": Goal(0.9, memory=1024 * MIB),
                "train_head": Goal(0.9, growth=10_000),
                "finetune_all": Goal(0.9, growth=10_000),
                "evaluate": Goal(0.9, growth=10_000),
            }.items()
        },
        long=True,
    ),
}


def named(names: list[str], *, long: bool) -> list[str]:
    """The benchmarks asked for; of no names, the long ones or the short ones.

    Raises:
        SystemExit: there is no such benchmark.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"bench: no {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return names or [name for name, benchmark in BENCHMARKS.items() if benchmark.long == long]
