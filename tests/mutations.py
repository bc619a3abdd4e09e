"""Damage for tests: from a file's bytes and a seed to bytes that a disk, a merge or a person made."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = [
    b"-1", b"0", b"1", b"2", b"1e999", b"-1e308", b"1e-320", b"NaN", b"-Infinity", b"0x10", b"1_0",
    b"9" * 20, b"9" * 5000, b"1" + b"0" * 400, b"1.5", b"-0.0", b"\xd9\xa3",
]  # fmt: skip
TOKENS = [
    b"", b"\x00", b"\r", b"\n", b"\r\n", b'"', b"'", b",", b":", b"{", b"}", b"[", b"]", b"[" * 5000,
    b'{"a":' * 5000, b"- " * 5000, b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"null",
    b"true", b"<<<<<<< HEAD\n", b"=======\n", b">>>>>>> other\n", b"../../etc/passwd", b"/dev/zero",
    b"&a [*a]", b"*a", b"!!python/object:os.system x", b"!!binary x", b"\x1b[2J", b"\xe2\x80\xae",
    b"9999-99-99", b"2026-02-30T25:61:61", b"PK\x05\x06", b"A" * 100_000,
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 10**18, 1.5, -1e300, "", "x", "\x00", "\x1b[2J [/x]", "../..", [], {},
    [1], {"a": 1}, "A" * 100_000, [[[]]], "é\u202e", 1e-300,
]  # fmt: skip


def mutate(content: bytes, seed: str) -> bytes:
    """One to three mutations, chosen by the seed; those of JSON and text where it is such."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        kinds: list[Mutation] = [*BYTES]
        if b"\x00" not in content:
            kinds += [*TEXT, *TEXT]
        if content[:1] == b"{":
            kinds += [*TREES] * 4
        content = rng.choice(kinds)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    """Headers and directories are at both ends."""
    near = rng.randrange(min(len(content), 300) + 1)
    return rng.choice((near, len(content) - near, rng.randrange(len(content) + 1)))


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[min(_place(content, rng), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    put = rng.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", rng.randbytes(8)))
    return content[:at] + put + content[at + len(put) :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _drop(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + rng.choice((1, 2, 7, 100)) :]


def _double(content: bytes, rng: random.Random) -> bytes:
    at, size = _place(content, rng), rng.choice((1, 4, 50, 1000))
    return content[: at + size] + content[at:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _replace(content: bytes, rng: random.Random) -> bytes:
    """Another content: random, nothing, zeros."""
    del content
    return rng.choice((b"", rng.randbytes(500), b"\x00" * 1000, b"\n" * 1000, b" ", b"[" * 100_000))


def _number(content: bytes, rng: random.Random) -> bytes:
    """Another number in the place of one."""
    if not (found := list(re.finditer(rb"-?\d+(\.\d+)?([eE]-?\d+)?", content))):
        return content
    chosen = rng.choice(found)
    return content[: chosen.start()] + rng.choice(NUMBERS) + content[chosen.end() :]


def _word(content: bytes, rng: random.Random) -> bytes:
    """Something else in the place of a word."""
    if not (found := list(re.finditer(rb"[A-Za-z_]+", content))):
        return content
    chosen = rng.choice(found)
    return content[: chosen.start()] + rng.choice(TOKENS) + content[chosen.end() :]


def _lines(content: bytes, rng: random.Random) -> bytes:
    """Lines that are missing, doubled, exchanged, or indented in another way."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            lines[one], lines[other] = lines[other], lines[one]
        case 3:
            lines[one] = rng.choice((b" ", b"  ", b"\t", b"- ", b"#")) + lines[one]
    return b"".join(lines)


def _tree(content: bytes, rng: random.Random) -> bytes:
    """JSON in which one value, at any depth, is of another type, another one, or missing."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return content
    here: Any = tree
    while isinstance(here, dict | list) and here:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = rng.choice(keys)
        if not isinstance(here[key], dict | list) or not here[key] or rng.random() < 0.2:
            match rng.randrange(5):
                case 0:
                    del here[key]
                case 1 if isinstance(here, list):
                    here.append(here[key])
                case 2:
                    here[key] = here[rng.choice(keys)]
                case _:
                    here[key] = rng.choice(ODD)
            break
        here = here[key]
    return json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


BYTES: list[Mutation] = [_flip, _flip, _overwrite, _cut, _drop, _double, _insert, _replace]
TEXT: list[Mutation] = [_number, _word, _lines]
TREES: list[Mutation] = [_tree]
