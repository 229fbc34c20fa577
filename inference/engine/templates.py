"""What a chat template must not do, because nobody can interrupt it: one operation on huge numbers holds the whole
process for hours. Found by reading the template, before it is run."""

from functools import lru_cache

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

_SMALL = 10_000


class _GenerationTag(Extension):
    """transformers marks with it what an assistant said; here it is what it encloses."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_READER = Environment(extensions=["jinja2.ext.loopcontrols", _GenerationTag])  # noqa: S701 - it renders nothing


@lru_cache(maxsize=8)
def find_poison(template: str) -> str:
    """The end of a sentence that begins with the template, or "". Raises TemplateSyntaxError.

    1. A power makes a huge number of two small ones.
    2. So does a product of two unknown ones, when it is repeated. One factor must be a small number, or a text.
    3. Rounding to so many digits takes a power of ten.
    """
    for node in _READER.parse(template).find_all((nodes.Pow, nodes.Mul, nodes.Filter)):
        match node:
            case nodes.Pow():
                return f"raises to a power (line {node.lineno})"
            case nodes.Mul() if not _is_bounded(node):
                return f"multiplies what may be huge (line {node.lineno})"
            case nodes.Filter(name="round") if not all(_is_small(each) for each in _list_arguments(node)):
                return f"rounds to an unknown number of digits (line {node.lineno})"
    return ""


def _is_bounded(product: nodes.Mul) -> bool:
    factors = (product.left, product.right)
    return any(_is_small(each) for each in factors) and not any(_is_huge(each) for each in factors)


def _list_arguments(node: nodes.Filter) -> list[nodes.Node]:
    dynamic = [each for each in (node.dyn_args, node.dyn_kwargs) if each]
    return [*node.args, *(each.value for each in node.kwargs), *dynamic]


def _is_small(node: nodes.Node) -> bool:
    """Written in the template: a number of a few digits, or a text."""
    if isinstance(node, nodes.Neg):
        return _is_small(node.node)
    return isinstance(node, nodes.Const) and not _is_huge(node)


def _is_huge(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, int | float) and abs(node.value) > _SMALL
