"""Which parts of a bundle's JSON are harmless: MONAI runs what it finds there, so all is listed."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = frozenset(
    {
        "torch.device", "torch.cuda.is_available", "torch.load", "sorted",
        "torch.utils.data.datapipes.iter.FileLister", "monai.utils.set_determinism",
    }
)  # fmt: skip
"""All that an expression may call; of torch as a whole ``torch.os`` would be a part."""
_METHODS = frozenset({"to", "load_state_dict", "run"})
"""What may be called of another entry of the bundle."""
_TARGETS = frozenset(
    {
        "Compose", "Dataset", "DataLoader", "SupervisedEvaluator", "SaveImaged", "LoadImaged",
        "EnsureChannelFirstd", "Orientationd", "EnsureTyped", "Spacingd", "ScaleIntensityRanged",
        "ScaleIntensityRangePercentilesd", "ResizeWithPadOrCropd", "Resized", "SimpleInferer",
        "SlidingWindowInferer", "Invertd", "Activationsd", "AsDiscreted", "SegResNetDS",
        "SegResNet", "SwinUNETR", "DynUNet", "UNet", "ViT", "UNETR",
    }
)  # fmt: skip
"""Classes of MONAI that a bundle of ours may be made of."""
_TARGET_ROOTS = ("torch.nn.", "monai.networks.nets.")
_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Call,
    ast.keyword, ast.BinOp, ast.Add, ast.IfExp, ast.List, ast.Tuple, ast.Dict, ast.ListComp,
    ast.comprehension,
)  # fmt: skip
_MACRO, _SHOWN = "%", 100
_REFERENCE = re.compile(r"@[\w:#]+")
_REFERRED = "reference_"


def problems(config: Any) -> Iterator[str]:
    """Yield a line for everything in a bundle's configuration that is not on the lists above."""
    for key, text in _strings(config):
        strange = _strange(key, text)
        if strange:
            yield f"{text[:_SHOWN]!r} reaches for {', '.join(sorted(strange))}"


def _strange(key: str, text: str) -> set[str]:
    if text.startswith("$"):
        return _foreign(text[1:])
    if text.startswith(_MACRO):
        return {"another file"}
    if key == "_target_":
        known = text in _TARGETS or _is_class_of(text)
        return set() if known else {text}
    return set()


def _is_class_of(target: str) -> bool:
    inside = [target.removeprefix(root) for root in _TARGET_ROOTS if target.startswith(root)]
    return any(part.isidentifier() and part[0].isupper() for part in inside)


def _foreign(expression: str) -> set[str]:
    """Return what an expression does or names that is not on the lists."""
    try:
        tree = ast.parse(_REFERENCE.sub(_REFERRED, expression), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {"what is no expression"}
    nodes = list(ast.walk(tree))
    others = {type(node).__name__ for node in nodes if not isinstance(node, _NODES)}
    own = {
        node.target.id
        for node in nodes
        if isinstance(node, ast.comprehension) and isinstance(node.target, ast.Name)
    }
    return others | _names(tree.body, own | {_REFERRED}) | _unsafe_loads(nodes)


def _names(tree: ast.AST, own: set[str]) -> set[str]:
    """Return the dotted names below ``tree`` that are neither its own nor allowed."""
    dotted = _dotted(tree)
    if dotted is not None:
        root, *rest = dotted.split(".")
        if root in own:
            return set(rest) - _METHODS
        return set() if dotted in _NAMES else {dotted}
    found = set()
    if isinstance(tree, ast.Attribute) and tree.attr not in _METHODS:
        found = {tree.attr}
    for below in ast.iter_child_nodes(tree):
        if not isinstance(below, ast.expr_context):
            found |= _names(below, own)
    return found


def _dotted(tree: ast.AST) -> str | None:
    """Return ``a.b.c`` of names and attributes, None for anything else."""
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Attribute):
        above = _dotted(tree.value)
        return None if above is None else f"{above}.{tree.attr}"
    return None


def _unsafe_loads(nodes: list[ast.AST]) -> set[str]:
    """Return a remark if a call of ``torch.load`` does not say ``weights_only=True``."""
    for node in nodes:
        if isinstance(node, ast.Call) and _dotted(node.func) == "torch.load":
            options = {word.arg: word.value for word in node.keywords}
            only = options.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                return {"torch.load without weights_only=True"}
    return set()


def _strings(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON tree, with the key it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _strings(value, str(name))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _strings(value, key)
