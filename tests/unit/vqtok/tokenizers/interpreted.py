"""Runs the fused lookup by Triton's interpreter on a CPU: NAME/z, /e and /b (bias) in, ids NAME out.

    TRITON_INTERPRET=1 python interpreted.py problems.safetensors ids.safetensors

Triton reads the variable when it decorates the kernel, so this must be a process of its own.
"""

import sys

from safetensors.torch import load_file, save_file

from vqtok.tokenizers.fused_lookup import best_codes

problems, answers = load_file(sys.argv[1]), {}
for name in {key.split("/")[0] for key in problems}:
    answers[name] = best_codes(*(problems[f"{name}/{part}"] for part in "zeb"))
save_file(answers, sys.argv[2])
