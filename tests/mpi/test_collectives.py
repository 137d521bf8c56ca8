from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("programs_collectives.py")


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_collectives_agreement_and_shared_memory(launch, ranks: int) -> None:
    assert "all good" in launch(ranks, PROGRAM).stdout
