"""The answer's bytes: what a healthy child sends arrives; what a child that was taken over sends is never believed."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Report, Rule, Severity, Signature, SignatureStatus, Signer, Trust
from pipeline.formats.limits import REPORT_MAX_BYTES, Limits
from pipeline.formats.recognise import Format
from pipeline.formats.wire import (
    ANSWER_MAX_BYTES,
    FRAMES_MAX_BYTES,
    REQUEST_MAX_BYTES,
    Answer,
    Garbled,
    Outcome,
    Request,
    Stop,
    recognised_frame,
    report_frames,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
RULE = Rule("test.rule", Severity.INFO, "It is so.", "Nothing to do.", "this test")


def full_report() -> Report:
    report = Report(Format.APK, "android", icon=PNG)
    report.metadata.name = "Notes \U0001f4d3"
    report.metadata.archs = ["arm64-v8a"]
    report.signature = Signature(
        SignatureStatus.VALID,
        ["v2", "v3"],
        [Signer("CN=a", "0" * 64, "2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "CN=b")],
        Trust.SELF_SIGNED,
    )
    report.details = {"permissions": ["a"], "nested": {"deep": [1, None, True, 1.5]}}
    report.add(RULE, "here")
    return report


def answer(frames: bytes, outcome: Outcome | None = None) -> Answer:
    return Answer.parse((outcome or Outcome(0)).encode() + frames)


def test_a_report_arrives_as_it_was_sent() -> None:
    report = full_report()
    outcome = Outcome(0, Stop.NONE, 0.5, 1 << 20, "a warning")
    got = answer(recognised_frame(Format.APK) + report_frames(report), outcome)
    assert got == Answer(outcome, Format.APK, report.as_dict(), PNG)


def test_a_request_arrives_as_it_was_sent_with_any_name() -> None:
    request = Request(
        Declared("\U0001f4d3\u202e\ud800" * 500, "ios", "ipa", "arm64"), Limits(wall_seconds=1.5)
    )
    assert len(request.encode()) < REQUEST_MAX_BYTES
    assert Request.decode(request.encode()) == request


def test_the_answer_of_a_child_that_died_early_has_what_it_said() -> None:
    got = answer(recognised_frame(Format.DMG) + report_frames(full_report())[:50], Outcome(-11))
    assert (got.outcome.status, got.recognised, got.report, got.icon) == (-11, Format.DMG, None, None)


def test_a_report_over_the_limit_is_replaced_by_one_that_says_so() -> None:
    report = full_report()
    report.details["members"] = ["x" * 1000] * 1100
    got = answer(report_frames(report))
    assert got.report is not None
    assert got.report["verdict"] == "inconclusive"
    assert [finding["rule"] for finding in got.report["findings"]] == ["inspect.output"]
    assert got.icon is None


def test_the_largest_answer_fits_the_limit_of_the_answer() -> None:
    log = "\0" * (16 << 10)
    assert len(Outcome(0, log=log).encode()) + FRAMES_MAX_BYTES <= ANSWER_MAX_BYTES


def frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">cI", kind, len(payload)) + payload


def changed(**changes: Any) -> bytes:
    return frame(b"R", json.dumps({**full_report().as_dict(), **changes}).encode())


def without(key: str) -> bytes:
    row = full_report().as_dict()
    del row[key]
    return frame(b"R", json.dumps(row).encode())


FORGERIES = {
    "an unknown key": changed(admin=True),
    "a missing key": without("findings"),
    "an unknown verdict": changed(verdict="fine"),
    "an unknown format": changed(format="trojan"),
    "a list for a format": changed(format=["apk"]),
    "an unknown platform": changed(platform="toaster"),
    "details that are no object": changed(details=[]),
    "findings that are no list": changed(findings={}),
    "a finding without a remedy": changed(findings=[{"rule": "a", "severity": "info", "message": "b"}]),
    "a finding of unknown weight": changed(
        findings=[{"rule": "a", "severity": "fatal", "message": "b", "remedy": "c"}]
    ),
    "a number for a name": changed(metadata={**full_report().metadata.as_dict(), "name": 1}),
    "metadata with a new key": changed(metadata={**full_report().metadata.as_dict(), "html": "<b>"}),
    "a signature without a status": changed(signature={"schemes": [], "signers": []}),
    "a signer that is a string": changed(signature={"status": "valid", "schemes": [], "signers": ["me"]}),
    "no JSON": frame(b"R", b"{"),
    "deep JSON": frame(b"R", b"[" * 200_000),
    "a list": frame(b"R", b"[]"),
    "bytes that are no text": frame(b"R", b"\xff"),
    "a report over the limit": frame(b"R", json.dumps("x" * REPORT_MAX_BYTES).encode()),
    "two reports": report_frames(full_report()) * 2,
    "an icon that is no PNG": frame(b"I", b"<svg>"),
    "an icon over the limit": frame(b"I", PNG + bytes(300 << 10)),
    "an unknown format recognised": frame(b"F", b"trojan"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_answer_is_refused(forgery: str) -> None:
    with pytest.raises(Garbled):
        answer(FORGERIES[forgery])


@pytest.mark.parametrize("data", [b"", b"\0\0\0\2[]", b"\xff\xff\xff\xff{}", b'\0\0\0\x0f{"status": "x"}'])
def test_an_answer_without_an_outcome_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        Answer.parse(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_bytes_from_a_child_that_was_taken_over_never_raise_anything_else(noise: bytes, place: int) -> None:
    frames = bytearray(recognised_frame(Format.APK) + report_frames(full_report()))
    at = place % len(frames)
    frames[at : at + len(noise)] = noise
    try:
        got = answer(bytes(frames))
    except Garbled:
        return
    assert got.report is None or got.report["verdict"] in {"accepted", "rejected", "inconclusive"}
