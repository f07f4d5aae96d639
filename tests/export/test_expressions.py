"""A bundle's JSON may say what ours say, and nothing that reaches further."""

import re

import pytest

from medssl.export.expressions import problems


def found(text, key="a"):
    return list(problems({"x": [{key: text}]}))


@pytest.mark.parametrize(
    "text",
    [
        "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "$@network_def.to(@device)",
        "$[{'image': path} for path in @datalist]",
        "$@a#b#c + '/models/model.pt'",
        "$@net.load_state_dict(torch.load(@root + '/m.pt', map_location=@d, weights_only=True))",
        "plain text with os.system in it",
    ],
)
def test_what_our_bundles_say_is_fine(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("$__import__('os').system('true')", "__import__"),
        ("$import os", "what is no expression"),
        ("$open('/etc/passwd').read()", "open"),
        ("$os.listdir('.')", r"os\.listdir"),
        ("$[eval(x) for x in @a]", "eval"),
        ("$(lambda torch: exec)(1)", "Lambda"),
        ("$getattr(monai, 'x')", "getattr"),
        ("$torch.os.system('true')", r"torch\.os\.system"),
        ("$torch.hub.load('a', 'b')", r"torch\.hub\.load"),
        ("$monai.bundle.load('a')", r"monai\.bundle\.load"),
        ("$torch.load('x')", "without weights_only=True"),
        ("$torch.load('x', weights_only=False)", "without weights_only=True"),
        ("$torch.load('x', **@options)", "without weights_only=True"),
        ("$@network.__class__", "__class__"),
        ("$@network.to.__globals__", "__globals__"),
        ("$[p.__class__ for p in @a]", "__class__"),
        ("$(@a)[0].x", "Subscript"),
        ("$" + "(" * 500 + "1" + ")" * 500, "what is no expression"),
        ("%../private.json#key", "another file"),
    ],
)
def test_what_reaches_further_is_named(text, named):
    (line,) = found(text)
    assert re.search(named, line.split(" reaches for ")[1]), line


@pytest.mark.parametrize("name", ["SegResNetDS", "torch.nn.ReLU", "monai.networks.nets.UNet"])
def test_targets_are_classes_of_monai_and_torch(name):
    assert found(name, "_target_") == []


@pytest.mark.parametrize(
    "name",
    ["os.system", "optional_import", "torch.load", "torch.hub.load", "monai.bundle.run", "Lambdad",
     "torch.nn.modules.module.os.system"],
)  # fmt: skip
def test_other_targets_are_named(name):
    assert found(name, "_target_") == [f"{name!r} reaches for {name}"]
