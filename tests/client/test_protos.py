from __future__ import annotations

from pathlib import Path

from client.protos.__main__ import ROOT, compile_protos


def test_the_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    made = compile_protos(tmp_path)
    assert len(made) == 6
    for stub in made:
        name = stub.relative_to(tmp_path)
        assert (ROOT / name).read_bytes() == stub.read_bytes(), f"{name}: run python -m client.protos"
