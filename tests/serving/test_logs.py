from __future__ import annotations

from pathlib import Path

import pytest

from serving import logs


def log_of(*said: tuple[int, str]) -> str:
    """model_log.log as serving/log4j2.xml lays it out, from (worker, text)."""
    head = "2026-01-01T10:00:00,000 [INFO ] W-{}-cxr_1.0-stdout MODEL_LOG - {}\n"
    return "".join(head.format(worker, text) for worker, text in said)


TRACEBACK = "Traceback (most recent call last):"

RAISED = log_of(
    (9000, "Torch worker started."),
    (9000, "Failed to load model cxr, exception no such layer"),
    (9000, TRACEBACK),
    (9001, "Torch worker started."),
    (9000, "RuntimeError: no such layer"),
    (9000, "Backend worker process died."),
    (9000, TRACEBACK),
    (9000, "RuntimeError: 500 - Unknown exception"),
)

NOT_IMPORTED = log_of(
    (9000, "Backend worker process died."),
    (9000, TRACEBACK),
    (9000, "ModuleNotFoundError: No module named 'pydicom'"),
    (9000, ""),
    (9000, "During handling of the above exception, another exception occurred:"),
    (9000, "ModuleNotFoundError: No module named 'ts.torch_handler.xray_handler'"),
)


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (
            RAISED,
            ["Failed to load model cxr, exception no such layer", TRACEBACK, "RuntimeError: no such layer"],
        ),
        (NOT_IMPORTED, [TRACEBACK, "ModuleNotFoundError: No module named 'pydicom'"]),
    ],
)
def test_the_cause_is_shown_without_what_it_led_to(tmp_path: Path, log: str, shown: list[str]) -> None:
    (tmp_path / "model_log.log").write_text(log)

    quoted = [line.strip() for line in logs.worker_error(tmp_path).splitlines() if line.strip()]
    assert quoted == [*shown, f"(more in {tmp_path}/model_log.log)"]


def test_a_long_traceback_keeps_its_end(tmp_path: Path) -> None:
    frames = [(9000, f"  frame {i}") for i in range(100)]
    log = log_of((9000, TRACEBACK), *frames, (9000, "ValueError: the cause"))
    (tmp_path / "model_log.log").write_text(log)

    quoted = logs.worker_error(tmp_path).splitlines()
    assert quoted[-2].strip() == "ValueError: the cause"
    assert len(quoted) < 25


def test_no_log_is_no_reason(tmp_path: Path) -> None:
    assert "no reason given" in logs.worker_error(tmp_path)
    assert "no reason given" in logs.last_words(tmp_path)
    assert not logs.keeps_dying(tmp_path)
