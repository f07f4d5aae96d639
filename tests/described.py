"""Which fields of a configuration are explained by the text below them."""

import ast
import functools
import inspect
import textwrap
from itertools import pairwise

from pydantic import BaseModel


@functools.cache
def described(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields with a text below them, those of its bases too."""
    found = set()
    for one in model.__mro__:
        if issubclass(one, BaseModel) and one is not BaseModel:
            lines = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body
            found |= {
                field.target.id
                for field, text in pairwise(lines)
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
            }
    return frozenset(found)
