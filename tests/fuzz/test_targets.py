"""For every reader and parser: whatever is changed in a valid file, the answer has a type, and nothing else comes out.

The same targets are fuzzed with coverage for as long as one likes by `make fuzz`.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.recognise import Format
from tests.fuzz.targets import targets

NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "cut", "insert", "number", "repeat", "end"])):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "number":
                width = draw(st.sampled_from([2, 4]))
                number = draw(st.sampled_from(NUMBERS)) & (1 << 8 * width) - 1
                data[at : at + width] = number.to_bytes(width, draw(st.sampled_from(["little", "big"])))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case "end":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", targets())
def test_a_changed_file_gives_a_typed_answer(name: str) -> None:
    target = targets()[name]
    for seed in target.seeds():
        target.run(seed)

        @settings(max_examples=80, deadline=None, database=None)
        @given(mutated(seed))
        def holds(data: bytes) -> None:
            target.run(data)

        holds()


def test_every_format_is_a_target() -> None:
    assert {str(kind) for kind in Format} <= targets().keys()
