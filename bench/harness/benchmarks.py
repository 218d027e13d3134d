"""The benchmarks B1 to B11: what each one times, the peer that it is compared with, and its goals on a CPU and a GPU.

The goals are defined only here. Those of B10, in seconds, are for a laptop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.harness.memory import MIB

DEFAULTS = "torch's and torchvision's defaults"  # the code of most tutorials
TIMM = "timm's train.py with --amp --amp-dtype bfloat16 --channels-last"
LINEAR = "linear scaling from fewer images"


@dataclass(frozen=True)
class Goal:
    """Conditions that must all hold; None sets no condition.

    Attributes:
        ratio: at least this many times as fast as the peer.
        seconds: our round takes at most this long.
        rate: we process at least this many images per second.
        memory: all our processes together hold at most this many bytes.
        growth: their memory grows by at most this many bytes per image.
    """

    ratio: float | None = None
    seconds: float | None = None
    rate: float | None = None
    memory: float | None = None
    growth: float | None = None

    def __str__(self) -> str:
        conditions = [
            f">= {self.ratio:g}x" if self.ratio is not None else "",
            f"<= {self.seconds:g} s" if self.seconds is not None else "",
            f">= {self.rate:,.0f} images/s" if self.rate is not None else "",
            f"<= {self.memory / MIB:,.0f} MiB" if self.memory is not None else "",
            f"<= {self.growth / 1000:g} kB per image" if self.growth is not None else "",
        ]
        return f"goal {', '.join(filter(None, conditions))}" if any(conditions) else "no goal"


@dataclass(frozen=True)
class Part:
    """One comparison of a benchmark: a description of the peer, and the goals on a CPU and on a GPU.

    Attributes:
        obstacle: a sentence that says what stands in the way of a goal that is not reached.
    """

    peer: str
    cpu: Goal = Goal()
    gpu: Goal = Goal()
    obstacle: str = ""

    def goal(self, hardware: str) -> Goal:
        """The goal for `cpu` or a GPU, as `hardware.hardware_name` names it."""
        return self.cpu if hardware == "cpu" else self.gpu


@dataclass(frozen=True)
class Benchmark:
    """A module with a function `run() -> list[Comparison]`, which returns one comparison per part.

    Attributes:
        module: its name.
        work: description of what is timed.
        parts: name -> part; the name is empty if the benchmark has one part only.
        long: takes too long for five rounds, so `make bench` leaves it out.
    """

    module: str
    work: str
    parts: Mapping[str, Part]
    long: bool = False


BOUNDED, SLOW_GROWTH = Goal(0.9, memory=1024 * MIB), Goal(0.9, growth=10_000)
BENCHMARKS: Mapping[str, Benchmark] = {
    "B1": Benchmark(
        "bench.benchmarks.b01_preprocessing",
        "preprocess, empty cache",
        {
            "JPEG 500x375": Part(
                DEFAULTS,
                Goal(1),
                obstacle="both sides spend most of the time in Pillow's decoder and resizer, and ours alone verifies, "
                "measures and audits the images.",
            ),
            "JPEG 2000x1500": Part(DEFAULTS),
            "PNG 300x300": Part(DEFAULTS),
        },
    ),
    "B2": Benchmark(
        "bench.benchmarks.b02_head",
        "train_head, 10 epochs",
        {
            "a": Part(f"the frozen base run in every epoch; {DEFAULTS}", Goal(32)),
            "b": Part("the same in bf16, channels_last", Goal(9)),
        },
    ),
    "B3": Benchmark(
        "bench.benchmarks.b03_finetuning",
        "fine-tuning steps, all layers, 224 px",
        {
            "a": Part(DEFAULTS, gpu=Goal(5)),
            "b": Part(
                TIMM,
                Goal(1.15),
                Goal(1.3),
                obstacle="both sides compute the same convolutions in bf16, and 1.15x would be 84 % of the limit, to "
                "which frozen and folded norms do not bring us.",
            ),
        },
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
        {"": Part("the same steps on one batch that stays on the device", Goal(0.98), Goal(0.98))},
    ),
    "B6": Benchmark(
        "bench.benchmarks.b06_inference",
        "inference, as in evaluate, predict and exported files",
        {
            "fp32": Part(f"the evaluation loop of {DEFAULTS}"),
            "bf16": Part(f"the evaluation loop of {DEFAULTS}", Goal(3.6), Goal(6, rate=20_000)),
            "int8": Part(f"the evaluation loop of {DEFAULTS}"),  # measured on a CPU only
        },
    ),
    "B7": Benchmark(
        "bench.benchmarks.b07_batches",
        "batches from the prepared arrays, augmented and normalised, on one core",
        {
            "loader": Part("ImageFolder in a DataLoader with 2 workers"),
            "step": Part("a training step on the same images (at 50x, batches take 2 % of it)", Goal(50)),
        },
    ),
    "B8": Benchmark(
        "bench.benchmarks.b08_pipeline",
        "the whole pipeline, 2,624 images, process starts included",
        {
            "": Part(
                f"six scripts of {DEFAULTS}, same epochs",
                Goal(4),
                Goal(seconds=40),
                obstacle="half of the time is fine-tuning, a third of that the gradient of depthwise convolutions; "
                "`evaluate` has made half the forward passes since, which is not measured yet.",
            )
        },
        long=True,
    ),
    "B9": Benchmark(
        "bench.benchmarks.b09_incremental_data",
        "fetch, decode and features after 1 % more data",
        {
            memory: Part(
                "the same with an empty cache",
                Goal(20),
                obstacle="a plain write of as many bytes takes half of that time, since the virtual machine gets its "
                "memory back from the host page by page.",
            )
            for memory in ("memory as found", "memory at hand")
        },
        long=True,
    ),
    "B10": Benchmark(
        "bench.benchmarks.b10_startup",
        "commands with nothing to do",
        {
            "twofold --help": Part("the same command after importing torch", Goal(seconds=0.3)),
            "dvc repro": Part("the same command after importing torch", Goal(seconds=3)),
        },
    ),
    "B11": Benchmark(
        "bench.benchmarks.b11_scaling",
        "time and memory of each step by number of images",
        dict.fromkeys(
            ("ingest", "preprocess"),
            Part(
                LINEAR,
                BOUNDED,
                BOUNDED,
                obstacle="time in the kernel grows faster than the number of images, since the virtual machine gets "
                "memory for 20 GB back from its host page by page.",
            ),
        )
        | dict.fromkeys(("train_head", "finetune_all", "evaluate"), Part(LINEAR, SLOW_GROWTH, SLOW_GROWTH)),
        long=True,
    ),
}


def select_benchmarks(names: list[str], *, long: bool) -> list[str]:
    """The benchmarks to run: the named ones, or without names all long or all short ones.

    Raises:
        SystemExit: a name is not that of a benchmark.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"bench: no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return names or [name for name, benchmark in BENCHMARKS.items() if benchmark.long == long]
