"""Who answers prompts, and trains, in `vqtok compare speed lvm`."""

import pytest
import torch

from vqtok.gpt.model import GPT
from workbench.compare.prompts import COMPARISON, Training, _as_gpt, _as_trained

pytestmark = pytest.mark.peer
CPU = torch.device("cpu")
CASES = [COMPARISON.toy(case) for case in COMPARISON.cases.values()]


@pytest.mark.parametrize("name", COMPARISON.contestants)
@pytest.mark.parametrize("case", CASES, ids=[*COMPARISON.cases])
def test_everybody_runs(name: str, case: object):
    """At toy size, once; who has no part in a case says so."""
    call = COMPARISON.contestants[name].prepare(case, CPU)
    if call is None:
        assert isinstance(case, Training) != (name == "vqtok.gpt alone")
    else:
        call()


def test_a_training_step_has_the_loss_of_the_transformer_alone():
    """What is compared are two ways to the same number."""
    case = next(case for case in CASES if isinstance(case, Training))
    sample, gpt = case.sample(), GPT(case.gpt)
    torch.testing.assert_close(_as_trained(sample)(gpt), _as_gpt(sample)(gpt))
