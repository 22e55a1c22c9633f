"""Imports point down only, and what runs on a device needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import unetq

ROOT = Path(__file__).resolve().parent.parent
# Lowest first. A module may import its own layer (without a cycle) and those below. A name covers its
# submodules unless a longer name says otherwise.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files", "fixedpoint"),
    (
        "config", "experiment", "sections", "export", "onnx", "moments", "preprocess", "resample", "tiling", "imageio",
        "nifti", "tiff", "cost", "layerstats", "metrics", "statistics",
        "surface", "boundaries", "history",
        "progress",
        "summary", "dicom", "dicom_geometry", "dicom_headers", "dicom_pixels", "dicom_segmentation", "geometry",
    ),
    (
        "data", "samples", "cases", "folds", "augment", "batches", "nets", "quant", "export.lower", "losses",
        "curvature", "checkpoint", "left_out", "scoring",
        "casescores", "overlays",
    ),
    ("native", "runtime", "footprint", "predict", "predict_folder", "segment", "inspect", "report"),
    (
        "check", "train", "loop", "prepare", "processes", "optimizers", "facts", "ptq", "runs", "evaluate", "verify",
        "export.run", "export.bundle", "onnx.run", "onnx.evaluate", "distill", "progressive", "gate", "gate_input",
        "sharpness",
    ),
    ("bench", "compress", "study", "sweep", "sweep_plan", "sweep_process", "sweep_worker"),
    ("cli",),
)  # fmt: skip
# Runs beside the scanner, or in a second's time: no torch, not even in a function that is called later.
DEVICE_SIDE = (
    "errors", "files", "fixedpoint", "config", "experiment", "sections", "cost", "layerstats", "imageio", "metrics",
    "nifti", "moments", "preprocess", "resample", "tiling", "tiff",
    "dicom", "dicom_segmentation", "geometry", "segment", "predict_folder",
    "native", "runtime", "footprint", "statistics", "predict", "inspect", "report", "onnx.session",
    "export.program", "export.integer", "export.convolution", "export.norms", "export.packing", "export.modelfile",
    "export.passes",
    "export.targets", "export.elf", "export.toolchain", "export.build", "export.golden", "export.guide",
)  # fmt: skip
DATASETS_MAY_IMPORT = (
    "unetq.cases", "unetq.data", "unetq.dicom", "unetq.errors", "unetq.files", "unetq.geometry",
    "unetq.imageio", "unetq.nifti", "unetq.preprocess", "unetq.samples", "unetq.export.program",
)  # fmt: skip
REPORT_MAY_IMPORT = ("unetq.errors", "unetq.files", "unetq.report", "unetq.statistics")
PUBLIC_NAMES = [
    "ModelMeta",
    "Preprocessing",
    "Program",
    "QuantNet",
    "Runtime",
    "UnetqError",
    "calibrate",
    "load",
    "lower",
    "quantize",
]
HEAVY = {"torch", "monai", "lightning_fabric", "tensorboard"}


@dataclass(frozen=True)
class Import:
    """One imported module: ``when`` is "top" (at import), "lazy" (inside a function) or "typing"."""

    target: str
    when: str
    line: int


def sources() -> Iterator[tuple[str, Path]]:
    for package, folder in (("unetq", ROOT / "unetq"), ("unetq_datasets", ROOT / "datasets" / "unetq_datasets")):
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def graph() -> dict[str, tuple[Import, ...]]:
    """Every module with what it imports; ``from package import module`` counts as the module."""
    modules = dict(sources())
    return {name: tuple(imports_of(name, path, set(modules))) for name, path in modules.items()}


def imports_of(name: str, path: Path, modules: set[str]) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST, when: str) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, when, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                yield Import(whole if whole in modules else origin, when, node.lineno)
        else:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and when == "top":
                when = "lazy"
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                for child in node.body:
                    yield from visit(child, "typing")
                children: list[ast.AST] = list(node.orelse)
            else:
                children = list(ast.iter_child_nodes(node))
            for child in children:
                yield from visit(child, when)

    yield from visit(ast.parse(path.read_text()), "top")


def within(module: str, names: tuple[str, ...]) -> str:
    """The longest of ``names`` that ``module`` is or lies in; empty where none is."""
    return max((name for name in names if module == name or module.startswith(name + ".")), key=len, default="")


def layer(module: str) -> int | None:
    """The layer of a module of ``unetq``; None where the table does not know it."""
    inside = module.removeprefix("unetq.")
    found = [(len(within(inside, names)), level) for level, names in enumerate(LAYERS)]
    length, level = max(found)
    return level if length else None


def own_imports() -> Iterator[tuple[str, Import]]:
    for name, imports in graph().items():
        yield from ((name, item) for item in imports if item.target.split(".")[0] == "unetq" and item.target != "unetq")


def reachable(start: str, kinds: tuple[str, ...]) -> set[str]:
    """Everything that importing ``start`` imports, its parent packages included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        parts = module.split(".")
        waiting += [".".join(parts[:count]) for count in range(1, len(parts))]
        waiting += [item.target for item in graph().get(module, ()) if item.when in kinds]
    return seen


def test_the_graph_is_read_at_all() -> None:
    assert Import("unetq.errors", "top", 13) in {Import(item.target, item.when, 13) for item in graph()["unetq.files"]}
    assert "lazy" in {item.when for item in graph()["unetq.export.program"]}
    assert "torch" in reachable("unetq.export.lower", ("top",))


def test_every_module_has_a_layer() -> None:
    unknown = [name for name in graph() if name.startswith("unetq.") and layer(name) is None]
    assert not unknown, f"not in LAYERS: {unknown}; give each the lowest layer that its imports allow"


def test_imports_point_down() -> None:
    upward = [
        f"{name}:{item.line} ({LAYERS[mine]}) imports {item.target}"
        for name, item in own_imports()
        if (mine := layer(name)) is not None and ((theirs := layer(item.target)) is None or theirs > mine)
    ]
    assert not upward


def test_no_cycles() -> None:
    for name in graph():
        for item in graph()[name]:
            if item.when == "top" and item.target in graph() and not name.startswith(f"{item.target}."):
                assert name not in reachable_files(item.target), f"cycle: {name}:{item.line}, {item.target}"


def reachable_files(start: str) -> set[str]:
    """Like ``reachable`` over top-level imports, without the parent packages (they are light by another test)."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += [item.target for item in graph().get(module, ()) if item.when == "top"]
    return seen


def test_data_sets_see_the_contract_only() -> None:
    for name, item in own_imports():
        if name.startswith("unetq_datasets"):
            assert within(item.target, DATASETS_MAY_IMPORT), f"{name}:{item.line} imports {item.target}"


def test_the_toolkit_names_no_data_set() -> None:
    for name, imports in graph().items():
        for item in imports:
            if name.startswith("unetq.") and not within(name, ("unetq.cli",)):
                assert not item.target.startswith("unetq_datasets"), f"{name}:{item.line} imports {item.target}"


def test_the_report_reads_folders_only() -> None:
    for name, item in own_imports():
        if name.startswith("unetq.report"):
            assert within(item.target, REPORT_MAY_IMPORT), f"{name}:{item.line} imports {item.target}"


def test_only_lower_sees_torch_layers_and_graph() -> None:
    for name, imports in graph().items():
        if name.startswith("unetq.export.") and name not in ("unetq.export.lower", "unetq.export.run"):
            seen = {item.target for item in imports}
            assert not any(target.startswith(("torch", "unetq.quant")) for target in seen), name


@pytest.mark.parametrize("name", DEVICE_SIDE)
def test_device_side_never_reaches_torch(name: str) -> None:
    assert f"unetq.{name}" in graph()
    assert not {module.split(".")[0] for module in reachable(f"unetq.{name}", ("top", "lazy"))} & HEAVY


def loaded_after(statements: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``statements``."""
    code = f"import sys\n{statements}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    paths = [str(ROOT), str(ROOT / "datasets")]
    code = f"import sys; sys.path[:0] = {paths!r}\n{code}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_device_side_loads_no_torch() -> None:
    loaded = loaded_after("\n".join(f"import unetq.{name}" for name in DEVICE_SIDE))
    assert "numpy" in loaded and not loaded & HEAVY


def test_the_package_itself_is_light() -> None:
    assert not loaded_after("import unetq") & {*HEAVY, "numpy", "pydantic", "matplotlib"}


def test_the_command_line_is_light() -> None:
    assert not loaded_after("import unetq.cli") & {*HEAVY, "matplotlib", "scipy"}


def test_public_names() -> None:
    assert unetq.__all__ == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(unetq, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unetq.nothing
