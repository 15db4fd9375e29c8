"""The same promises on a GPU, where equal means to the rounding of float32."""

import json

import pytest
import torch
from safetensors.torch import load_file


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_stop_and_resume_on_a_gpu(script, tmp_path, precision):
    """Weights, averages and the fused optimizer's memory come back on the device and go on from there."""
    loop = {"dropout": 0.2, "every": [0, 3], "critic": True}
    runs = [("straight", loop), ("broken", {**loop, "stop": 7}), ("broken", loop)]
    shared = {"steps": 12, "processes": 1, "device": "cuda", "precision": precision}
    settings = [{"folder": str(tmp_path / name), "loop": loop, **shared} for name, loop in runs]
    script("toy.py", json.dumps(settings), device="cuda")
    straight, resumed = (load_file(tmp_path / name / "result.safetensors") for name in ("straight", "broken"))
    assert resumed["seen"][0, 0] == 6
    for name in straight.keys() - {"seen"}:
        torch.testing.assert_close(resumed[name], straight[name], atol=1e-5, rtol=1e-4)
