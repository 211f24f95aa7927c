"""A reader of nginx's configuration, as far as a test needs one."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Directive:
    """A directive of nginx: its words, and what is in its braces if it has any."""

    words: list[str]
    inner: list[Directive] | None = None


def nginx(text: str) -> list[Directive]:
    """The directives of a file. Raises ValueError for what does not nest or end."""
    levels: list[list[Directive]] = [[]]
    words: list[str] = []
    for word in re.findall(r"'[^']*'|[{};]|[^\s{};']+", re.sub(r"#.*", "", text)):
        if word == "{":
            levels.append([])
            levels[-2].append(Directive(words, levels[-1]))
        elif word == ";":
            levels[-1].append(Directive(words))
        elif word != "}":
            words.append(word)
            continue
        elif words or len(levels) == 1:
            raise ValueError("a directive without its end")
        else:
            levels.pop()
        words = []
    if words or len(levels) > 1:
        raise ValueError("a block without its end")
    return levels[0]


def blocks(directives: list[Directive], name: str) -> dict[str, list[Directive]]:
    """The blocks of this name by the last of their words."""
    return {one.words[-1]: one.inner for one in directives if one.words[0] == name and one.inner is not None}


def flat(directives: list[Directive]) -> dict[str, str]:
    """The directives without braces, by their first word."""
    return {one.words[0]: " ".join(one.words[1:]) for one in directives if one.inner is None}
