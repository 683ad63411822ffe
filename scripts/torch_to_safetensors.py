"""Converts weights that torch.save has pickled (.pth, .pt, .bin) to safetensors, which emojax reads.

    python scripts/torch_to_safetensors.py WEIGHTS.pth WEIGHTS.safetensors

Needs torch (the CPU build is enough), which reads with `weights_only=True`: tensors and plain containers, and no code.
A checkpoint that keeps the weights beside other things, as many training scripts write it, is searched for them.
"""

import sys
from pathlib import Path

NESTED = ("state_dict", "model_state_dict", "model", "model_ema", "net", "weights")
"""Keys under which training scripts keep the weights, in the order in which they are looked for."""


def state_dict(found):
    """The mapping of names to tensors in what a file holds; None where there is none."""
    import torch  # pyright: ignore[reportMissingImports]

    if not isinstance(found, dict):
        return None
    if found and all(isinstance(value, torch.Tensor) for value in found.values()):
        return found
    return next((inner for key in NESTED if (inner := state_dict(found.get(key))) is not None), None)


def main(source: str, target: str) -> str:
    import pickle

    import torch  # pyright: ignore[reportMissingImports]
    from safetensors.torch import save_file

    if not target.endswith(".safetensors") or Path(target).exists():
        return f"{target}: expected the name of a new file that ends in .safetensors"
    try:
        weights = state_dict(torch.load(source, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        return f"{source}: no plain weights, which are all that is read: {str(error).splitlines()[0]}"
    if weights is None:
        return f"{source}: expected named tensors, alone or under one of {', '.join(NESTED)}"
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}, target)
    print(f"{target}: {len(weights)} tensors; now: emojax weights inspect {target}")
    return ""


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]) or 0)
