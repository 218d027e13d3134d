"""Twelve ways to poison a file of weights or its folder.

`plant` poisons a good file (or its folder) in place; code in it creates the canary file. `careless` reads the file in
the unsafe way that executes the code, for each kind that contains code.
"""

import importlib.util
import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import joblib
import torch


class Canary:
    """An object whose unpickling executes code that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def plant(kind: str, path: Path, canary: Path) -> None:
    """Poison a good file of weights."""
    _PLANTS[kind](path, canary)


def careless(kind: str, path: Path) -> None:
    """Read the poisoned file in the unsafe way that this kind targets."""
    _READERS[kind](path)


def _reduce(path: Path, canary: Path) -> None:
    torch.save({"conv1.weight": Canary(canary)}, path)


def _nested_zip(path: Path, canary: Path) -> None:
    inner = io.BytesIO()
    torch.save({"conv1.weight": Canary(canary)}, inner)
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("archive/data.pkl", inner.getvalue())
        outer.writestr("archive/version", "3\n")


def _read_nested_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as outer:
        _torch_load(io.BytesIO(outer.read("archive/data.pkl")))


def _legacy_tar(path: Path, canary: Path) -> None:
    members = {
        "sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True, "type_sizes": {}}),
        "storages": pickle.dumps(0) + pickle.dumps([]),
        "tensors": pickle.dumps(0),
        "pickle": pickle.dumps({"conv1.weight": Canary(canary)}, protocol=2),
    }
    with tarfile.open(path, "w:") as tar:
        for name, data in members.items():
            _add(tar, name, data)


def _renamed_extension(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(canary)))


def _poisoned_torch_cache(path: Path, canary: Path) -> None:
    # The format of torch's cache before checkpoints were zip files.
    torch.save({"conv1.weight": Canary(canary)}, path, _use_new_zipfile_serialization=False)


def _wrong_sha(path: Path, canary: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def _truncated(path: Path, canary: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _header_too_long(path: Path, canary: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b'{"a":' * 1000)


def _code_path(path: Path, canary: Path) -> None:
    """Keep the weights; add modules to their folder that could be imported."""
    code = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"
    folder = path.parent
    for name in ("__init__.py", "model.py", "twofold.py", "torch.py", "sitecustomize.py", "code/served.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    flavor = "  python_function:\n    loader_module: served\n    code: code\n    model_code_path: served.py\n"
    (folder / "MLmodel").write_text(f"flavors:\n{flavor}")


def _import_code(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("served", path.parent / "code" / "served.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _joblib_calibrator(path: Path, canary: Path) -> None:
    joblib.dump(Canary(canary), path, compress=True)
    shutil.copy(path, path.with_name("calibrator.joblib"))


def _symlink(path: Path, canary: Path) -> None:
    elsewhere = path.absolute().parent.parent / f"elsewhere-{path.name}"
    _reduce(elsewhere, canary)
    path.unlink()
    path.symlink_to(elsewhere)


def _absolute_path(path: Path, canary: Path) -> None:
    """An archive with a member that is extracted outside the target folder."""
    with tarfile.open(path, "w:") as tar:
        _add(tar, str(canary), b"")
        _add(tar, "sys_info", pickle.dumps({"protocol_version": 1000, "little_endian": True, "type_sizes": {}}))


def _unpack(path: Path) -> None:
    with tarfile.open(path) as tar:
        tar.extractall(path.parent, filter="fully_trusted")  # noqa: S202


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _torch_load(path: Path | io.BytesIO) -> None:
    torch.load(path, weights_only=False)


_PLANTS: dict[str, Callable[[Path, Path], None]] = {
    "pickle by reduce": _reduce,
    "nested zip": _nested_zip,
    "legacy tar": _legacy_tar,
    "renamed extension": _renamed_extension,
    "poisoned torch cache": _poisoned_torch_cache,
    "wrong SHA": _wrong_sha,
    "truncated": _truncated,
    "header too long": _header_too_long,
    "code path": _code_path,
    "joblib calibrator": _joblib_calibrator,
    "symlink": _symlink,
    "absolute path": _absolute_path,
}
_READERS: dict[str, Callable[[Path], None]] = {
    "pickle by reduce": _torch_load,
    "nested zip": _read_nested_zip,
    "legacy tar": _torch_load,
    "renamed extension": lambda path: pickle.loads(path.read_bytes()),  # noqa: S301
    "poisoned torch cache": _torch_load,
    "code path": _import_code,
    "joblib calibrator": joblib.load,
    "symlink": _torch_load,
    "absolute path": _unpack,
}
KINDS = tuple(_PLANTS)
WITH_CODE = tuple(_READERS)  # the others are corrupted but contain no code
WITH_GOOD_WEIGHTS = ("code path",)  # the file of weights is unchanged
