"""Bundles and minifies the browser client when the server starts.

The client's modules work as they lie in the repository; nothing is built. When a server starts it
joins them, so that a page needs one request and not a dozen; it drops comments and white space and
shortens names that nobody outside can see.

It knows as much JavaScript as the client is written in: each statement ends with a semicolon,
imports and exports are named and stand at the beginning of a line, templates and classes are not
nested, and no two modules have the same name at their top level. The browser tests run what it
makes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import product
from string import ascii_letters
from typing import Final, NamedTuple

__all__ = ["bundle", "exports", "minify"]

_TOKEN: Final = re.compile(
    r"""
    (?P<space>(?:\s+|//[^\n]*|/\*.*?\*/)+)
  | (?P<text>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")
  | (?P<template>`(?:\\.|[^`\\])*`)
  | (?P<pattern>(?<=[(,])/(?:\\.|[^/\\\n])+/)
  | (?P<private>\#[A-Za-z_]\w*)
  | (?P<word>[A-Za-z_$][\w$]*)
  | (?P<number>\d[\w.]*)
  | (?P<sign>=>|\?\.|\.\.\.|\+\+|--|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IMPORT: Final = re.compile(r"^import [^;]*? from '\./([\w-]+\.js)';\n", re.MULTILINE)
_EXPORTED: Final = re.compile(r"^export (?:async )?(?:class|function|const) (\w+)", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=async |class |function |const )", re.MULTILINE)


_VALUES: Final = {"true": "!0", "false": "!1", "undefined": "void 0"}
CLOSING: Final = frozenset("}])")


class Token(NamedTuple):
    kind: str
    text: str


END: Final = Token("sign", ";")


def bundle(sources: Mapping[str, str], roots: Sequence[str]) -> str:
    """The roots and the modules that they need, as one that exports what the roots export."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        for needed in _IMPORT.findall(sources[name]):
            visit(needed)
        order.setdefault(name)

    for root in roots:
        visit(root)
    bodies = [_EXPORT.sub("", _IMPORT.sub("", sources[name])) for name in order]
    names = [exported for root in roots for exported in exports(sources[root])]
    return minify("".join([*bodies, f"export {{ {', '.join(names)} }};\n"]))


def exports(source: str) -> list[str]:
    """The names that a module exports where it declares them."""
    return _EXPORTED.findall(source)


def minify(source: str) -> str:
    """The same program, shorter."""
    tokens = [each for each in _tokens(source) if each.kind != "space"]
    tokens = _shorten_names(tokens, set(exports(source)))
    parts = [""]
    for _, (kind, text), after in _with_neighbours(_drop_parentheses(_merge_declarations(tokens))):
        if (text == ";" and after == "}") or (text == "," and after in CLOSING):
            continue
        if kind == "word":
            text = _VALUES.get(text, text)
        elif kind == "number":
            text = _short_number(text.replace("_", ""))
        if _would_join(parts[-1][-1:], text[0]):
            parts.append(" ")
        parts.append(text)
    return "".join(parts).replace("'+'", "")


def _short_number(text: str) -> str:
    """`3e4` for `30000`, `.5` for `0.5`."""
    text = re.sub(r"(?<=[1-9])0{3,}$", lambda zeros: f"e{len(zeros[0])}", text)
    return text.removeprefix("0") if text.startswith("0.") else text


def _tokens(source: str) -> Iterator[Token]:
    """The program's, those of templates included: what is between their `${` and `}`."""
    for match in _TOKEN.finditer(source):
        kind, text = match.lastgroup or "", match[0]
        if kind != "template":
            yield Token(kind, text)
            continue
        if "\n" in text:  # a stylesheet
            text = re.sub(r"\s*([{},;])\s*|(:)\s+", r"\1\2", re.sub(r"\s+", " ", text))
        for index, part in enumerate(re.split(r"(?<=\$\{)([^}]*)(?=\})", text)):
            if index % 2:
                yield from _tokens(part)
            else:
                yield Token("template", part)


def _merge_declarations(tokens: Sequence[Token]) -> list[Token]:
    """`let a = 1, b = 2;` for `const a = 1; const b = 2;`."""
    found: list[Token] = []
    is_declaration = [False]  # the statement under way, at each depth of brackets
    for before, (kind, text), _ in _with_neighbours(tokens):
        if kind == "sign" and text in "([{":
            is_declaration.append(False)
        elif kind == "sign" and text in CLOSING:
            is_declaration.pop()
        elif kind == "word" and before in (";", "{", "}"):
            is_variable = text in ("const", "let")
            if is_variable and is_declaration[-1] and found[-1].text == ";":
                found[-1] = Token("sign", ",")
                continue
            is_declaration[-1] = is_variable
        found.append(
            Token("word", "let") if (kind, text) == ("word", "const") else Token(kind, text)
        )
    return found


def _drop_parentheses(tokens: Sequence[Token]) -> list[Token]:
    """`a => …` for `(a) => …`."""
    texts = [token.text for token in tokens]
    dropped: set[int] = set()
    for index, text in enumerate(texts):
        if text == "=>" and texts[index - 3] == "(" and tokens[index - 2].kind == "word":
            dropped |= {index - 3, index - 1}
    return [token for index, token in enumerate(tokens) if index not in dropped]


def _would_join(before: str, after: str) -> bool:
    """Whether two tokens would become another one, or another two."""
    return (_is_word(before) and _is_word(after)) or (
        before != "" and before + after in ("++", "--")
    )


def _is_word(character: str) -> bool:
    return character.isalnum() or character in ("_", "$", "#")


def _shorten_names(tokens: Sequence[Token], public: Set[str]) -> list[Token]:
    """New names for variables and private fields, the frequent ones the shortest. Variables of the
    top level have one name everywhere. All others, and private fields, belong to a class or to the
    functions that follow it, so each class has the short names for itself."""
    declared, properties, tops = _find_names(tokens)
    own = declared - properties - public
    parts = _classes(tokens)
    locals_ = [_by_frequency(part, own - tops) for part in parts]
    # What shares a name: a variable of the top level has its own, the nth locals of all parts one.
    shared: Counter[str | int] = Counter(dict(_by_frequency(tokens, own & tops)))
    for counts in locals_:
        shared.update({place: count for place, (_, count) in enumerate(counts)})
    used = {token.text for token in tokens}
    free = (name for name in _names() if name not in used)
    new = {key: next(free) for key, _ in shared.most_common()}
    found: list[Token] = []
    for part, counts in zip(parts, locals_, strict=True):
        short = {name: new[name] for name in own & tops}
        short |= {name: new[place] for place, (name, _) in enumerate(counts)}
        privates = Counter(text for kind, text in part if kind == "private").most_common()
        short |= {name: f"#{each}" for (name, _), each in zip(privates, _names(), strict=False)}
        found += [
            Token(kind, short.get(text, text) if kind in ("word", "private") else text)
            for kind, text in part
        ]
    return found


def _by_frequency(tokens: Iterable[Token], names: Set[str]) -> list[tuple[str, int]]:
    return Counter(text for kind, text in tokens if kind == "word" and text in names).most_common()


def _classes(tokens: Iterable[Token]) -> list[list[Token]]:
    """The program in parts, each of which but the first begins with a class."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token == ("word", "class"):
            parts.append([])
        parts[-1].append(token)
    return parts


def _find_names(tokens: Sequence[Token]) -> tuple[set[str], set[str], set[str]]:
    """Names that are declared; names that are a property's somewhere; and of the former those at
    the top level. A name that is nowhere a property's can be replaced wherever it stands."""
    declared = set(_parameters(tokens))
    properties: set[str] = set()
    tops: set[str] = set()
    brackets = [""]
    for before, (kind, text), after in _with_neighbours(tokens):
        if kind == "sign" and text in "([{":
            brackets.append(text)
        elif kind == "sign" and text in CLOSING:
            brackets.pop()
        if kind != "word":
            continue
        if before in ("const", "let", "function", "class"):
            declared.add(text)
            if len(brackets) == 1:
                tops.add(text)
        in_object = brackets[-1] == "{" and before in ("{", ",") and after in (",", "}", "=")
        if in_object or after == ":" or before in (".", "?.", "get", "async", "static"):
            properties.add(text)
    return declared, properties, tops


def _with_neighbours(tokens: Sequence[Token]) -> Iterator[tuple[str, Token, str]]:
    """Each token between the texts of those before and after it."""
    padded = [END, *tokens, END]
    for before, token, after in zip(padded, tokens, padded[2:], strict=False):
        yield before.text, token, after.text


def _parameters(tokens: Sequence[Token]) -> Iterator[str]:
    """What stands alone between parentheses that a body or an arrow follows."""
    lists: list[list[str]] = []
    for before, (kind, text), after in _with_neighbours(tokens):
        if text == "(":
            lists.append([])
        elif text == ")":
            found = lists.pop()
            if after in ("=>", "{"):
                yield from found
        elif lists and kind == "word" and before in ("(", ",") and after in (",", ")", "="):
            lists[-1].append(text)


def _names() -> Iterator[str]:
    yield from ascii_letters
    for pair in product(ascii_letters, repeat=2):
        yield "".join(pair)
