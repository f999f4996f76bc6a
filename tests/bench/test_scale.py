"""The pure parts of the cases of scale: import times, pictures, and the reading of segments."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from rtrelay.v1 import relay_pb2

from bench.cases.stream_cost import WAYS, picture
from bench.import_time import read
from bench.line_plot import step
from bench.live import read_segments
from bench.paths import LoadError, Seen

_TOLD = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   _io
2026 something else that was written
import time:      2000 |       2100 |     sqlalchemy.sql
import time:       500 |       2600 |   sqlalchemy
import time:       300 |        300 |   relay.codecs.base
import time:       400 |       3400 | relay.codecs
import time:       650 |        650 | relay.cli
"""


def test_import_times_are_added_by_package() -> None:
    found = read(_TOLD, 3)
    assert found.total_ms == pytest.approx(3.95)
    assert found.modules == 6
    assert found.largest == [("sqlalchemy", 2.5), ("relay.codecs", 0.7), ("relay.cli", 0.65)]


@pytest.mark.parametrize("largest", [0.03, 1, 7, 10, 99, 100, 512, 12345.6])
def test_an_axis_has_a_few_round_marks(largest: float) -> None:
    found = step(largest)
    assert 1 <= math.ceil(largest / found) <= 10
    first_digit = f"{found:e}"[:8]
    assert first_digit in ("1.000000", "2.000000", "5.000000")


def test_the_picture_has_every_point_and_says_how_straight_they_are() -> None:
    streams = [1, 4, 16]
    rows = {f"{way}/{n}": {"core_ms_s": 2.0 * n + 3} for way in WAYS for n in streams}
    text = picture({"axes": {"streams": streams}, "rows": rows})
    root = ET.fromstring(text)
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == len(WAYS) * (len(streams) + 1)
    assert text.count("2 a stream, R² 1.0000") == len(WAYS)


def _segment(at_ns: int, *stamps_ns: int) -> tuple[int, bytes]:
    text = " ".join(f"t={stamp:016d} word" for stamp in stamps_ns) or "word"
    frame = relay_pb2.ConverseResponse(segment=relay_pb2.Segment(generation_id="g", text=text))
    return at_ns, frame.SerializeToString()


def _last(at_ns: int, outcome: relay_pb2.Outcome.ValueType) -> tuple[int, bytes]:
    end = relay_pb2.End(generation_id="g", outcome=outcome)
    return at_ns, relay_pb2.ConverseResponse(end=end).SerializeToString()


def test_a_segment_is_as_late_as_its_last_token() -> None:
    nothing = relay_pb2.Segment(generation_id="g", is_last=True)
    seen: Seen = [
        _segment(500, 100, 200),
        _segment(900, 300, 400, 600),
        (950, relay_pb2.ConverseResponse(segment=nothing).SerializeToString()),
        _last(960, relay_pb2.OUTCOME_COMPLETED),
    ]
    assert read_segments(seen, 5, 2) == [(500, 200), (900, 600)]


def test_a_turn_that_is_not_whole_is_told() -> None:
    whole: Seen = [_segment(500, 100, 200), _last(960, relay_pb2.OUTCOME_COMPLETED)]
    with pytest.raises(LoadError, match="2 of 3 tokens in 1 of 1 segments"):
        read_segments(whole, 3, 1)
    with pytest.raises(LoadError, match="in 1 of 2 segments"):
        read_segments(whole, 2, 2)
    with pytest.raises(LoadError, match="did not complete"):
        read_segments([whole[0], _last(960, relay_pb2.OUTCOME_FAILED)], 2, 1)
    with pytest.raises(LoadError, match="did not complete"):
        read_segments(whole[:1], 2, 1)
    with pytest.raises(LoadError, match="without a stamp"):
        read_segments([_segment(1), whole[1]], 0, 0)
