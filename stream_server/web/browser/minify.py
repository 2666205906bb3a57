"""Bundler and minifier of the browser client, run when the server starts.

The client's modules work unchanged, without a build. A server joins them when it starts, so that a
page needs one request instead of a dozen. It also drops comments and white space, and shortens
names that are not visible outside.

It understands only the JavaScript that the client uses: each statement ends with a semicolon;
imports and exports are named and begin a line; templates and classes are not nested; and no two
modules have the same name at their top level. The browser tests run the result.
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
    """A piece of a program: its kind is the group of `_TOKEN` that it matches."""

    kind: str
    text: str


END: Final = Token("sign", ";")


def bundle(sources: Mapping[str, str], roots: Sequence[str]) -> str:
    """Joins the roots and the modules that they import into one, with the exports of the roots."""
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
    """Returns the names that a module exports in their declarations."""
    return _EXPORTED.findall(source)


def minify(source: str) -> str:
    """Returns a shorter program that does the same."""
    tokens = [each for each in _tokens(source) if each.kind != "space"]
    tokens = _join_strings(_shorten_names(tokens, set(exports(source))))
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
    return "".join(parts)


def _join_strings(tokens: list[Token]) -> list[Token]:
    """Joins two strings with a plus between them, as long texts are written."""
    joined: list[Token] = []
    for token in tokens:
        if (
            len(joined) > 1
            and joined[-1].text == "+"
            and all(each.kind == "text" and each.text[0] == "'" for each in (joined[-2], token))
        ):
            joined[-2:] = [joined[-2]._replace(text=joined[-2].text[:-1] + token.text[1:])]
        else:
            joined.append(token)
    return joined


def _short_number(text: str) -> str:
    """Writes `30000` as `3e4` and `0.5` as `.5`."""
    text = re.sub(r"(?<=[1-9])0{3,}$", lambda zeros: f"e{len(zeros[0])}", text)
    return text.removeprefix("0") if text.startswith("0.") else text


def _tokens(source: str) -> Iterator[Token]:
    """Yields the tokens of the program, including those between `${` and `}` in templates."""
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
    """Writes `const a = 1; const b = 2;` as `let a = 1, b = 2;`."""
    found: list[Token] = []
    is_declaration = [False]  # whether the current statement is one, for each open bracket
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
    """Writes `(a) => …` as `a => …`."""
    texts = [token.text for token in tokens]
    dropped: set[int] = set()
    for index, text in enumerate(texts):
        if text == "=>" and texts[index - 3] == "(" and tokens[index - 2].kind == "word":
            dropped |= {index - 3, index - 1}
    return [token for index, token in enumerate(tokens) if index not in dropped]


def _would_join(before: str, after: str) -> bool:
    """Whether two tokens without a space between them would be read as other tokens."""
    return (_is_word(before) and _is_word(after)) or (
        before != "" and before + after in ("++", "--")
    )


def _is_word(character: str) -> bool:
    return character.isalnum() or character in ("_", "$", "#")


def _shorten_names(tokens: Sequence[Token], public: Set[str]) -> list[Token]:
    """Renames variables and private fields; the most frequent get the shortest names. A top-level
    variable has one new name everywhere. All other variables and private fields belong to a class
    or to the functions after it, so each class can use all short names."""
    declared, properties, tops = _find_names(tokens)
    own = declared - properties - public
    parts = _classes(tokens)
    locals_ = [_by_frequency(part, own - tops) for part in parts]
    # Each top-level variable gets a name of its own. The nth local variables of all parts share a
    # name.
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
    """Returns the names that occur in the tokens, with their numbers, the most frequent first."""
    return Counter(text for kind, text in tokens if kind == "word" and text in names).most_common()


def _classes(tokens: Iterable[Token]) -> list[list[Token]]:
    """Splits the program into parts. Each part but the first begins with a class."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token == ("word", "class"):
            parts.append([])
        parts[-1].append(token)
    return parts


def _find_names(tokens: Sequence[Token]) -> tuple[set[str], set[str], set[str]]:
    """Returns the declared names, the names of properties, and the declared names at the top level.
    A name that no property has can be replaced everywhere."""
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
    """Yields each token between the texts of the previous and the next token."""
    padded = [END, *tokens, END]
    for before, token, after in zip(padded, tokens, padded[2:], strict=False):
        yield before.text, token, after.text


def _parameters(tokens: Sequence[Token]) -> Iterator[str]:
    """Yields the parameters: names between parentheses that are followed by a body or an arrow."""
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
    """Yields short names, the shortest first."""
    yield from ascii_letters
    for pair in product(ascii_letters, repeat=2):
        yield "".join(pair)
