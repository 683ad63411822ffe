"""scripts/plan.py: collectives and traffic from a program's text, FLOPs, the roofline and the page, all by hand."""
# ruff: noqa: E402 (the scripts are no package: their folder must be on the path first)

import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import plan
import plan_chips
import plan_env
import plan_flops
import plan_hlo
import plan_page
import plan_roofline
from jax import lax
from plan_chips import CHIPS, PlanError

PROGRAM = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%all-reduce-scatter.1 (p: f32[64]) -> f32[8] {
  %p = f32[64]{0} parameter(0)
  %inner = f32[64]{0} all-reduce(%p), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %part = f32[8]{0} slice(%inner), slice={[0:8]}
}

%body (t: (s32[], f32[100])) -> (s32[], f32[100]) {
  %t = (s32[], f32[100]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %v = f32[100]{0} get-tuple-element(%t), index=1
  %r = f32[100]{0} all-reduce(%v), replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %again = (s32[], f32[100]{0}) tuple(%i, %r)
}

%small (a: f32[10]) -> f32[10] {
  %a = f32[10]{0} parameter(0)
  ROOT %b = f32[10]{0} copy(%a)
}

%large (c: f32[10]) -> f32[10] {
  %c = f32[10]{0} parameter(0)
  %d = f32[10]{0} copy(%c)
  ROOT %e = f32[10]{0} copy(%d)
}

%piece.1 (h: f32[3]) -> f32[6] {
  %h = f32[3]{0} parameter(0)
  ROOT %whole = f32[6]{0} all-to-all(%h), channel_id=9, replica_groups={{0,1}}, dimensions={0}
}

%piece.2 (k: f32[3]) -> f32[6] {
  %k = f32[3]{0} parameter(0)
  ROOT %rest = f32[6]{0} all-to-all(%k), channel_id=9, replica_groups={{0,1}}, dimensions={0}
}

ENTRY %main.1 (w: f32[16,4], g: bf16[32], s: f32[64]) -> f32[10] {
  %w = f32[16,4]{1,0:T(8,128)} parameter(0)
  %g = bf16[32]{0} parameter(1)
  %s = f32[64]{0} parameter(2)
  %near = f32[16,4]{1,0:T(8,128)S(1)} copy(%w)
  %start = (bf16[32]{0}, bf16[128]{0}) all-gather-start(%g), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  %done = bf16[128]{0} all-gather-done(%start)
  %cut = f32[8]{0} fusion(%s), kind=kCustom, calls=%all-reduce-scatter.1
  %three = f32[3]{0:S(1)} constant({1, 2, 3})
  %first = f32[6]{0:S(1)} fusion(%three), kind=kCustom, calls=%piece.1
  %second = f32[6]{0:S(1)} fusion(%three), kind=kCustom, calls=%piece.2
  %zero = s32[] constant(0)
  %much = f32[100]{0} broadcast(%zero), dimensions={}
  %init = (s32[], f32[100]{0}) tuple(%zero, %much)
  %loop = (s32[], f32[100]{0}) while(%init), condition=%c2, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %yes = pred[] constant(true)
  %few = f32[10]{0} slice(%much), slice={[0:10]}
  ROOT %end = f32[10]{0} conditional(%yes, %few, %few), true_computation=%small, false_computation=%large
}
"""


def test_collectives_of_a_program():
    found = plan_hlo.summary(PROGRAM)["collectives"]
    assert found == {
        "all-gather": {"count": 1, "bytes": 4 * 64, "wire": 4 * 64 * 3 / 4},  # 32 bfloat16 numbers from each of four
        "reduce-scatter": {"count": 1, "bytes": 256, "wire": 256 * 7 / 8},
        "all-to-all": {"count": 1, "bytes": 12, "wire": 6},  # in two pieces
        "all-reduce": {"count": 5, "bytes": 5 * 400, "wire": 5 * 2 * 400 / 2},
    }


def test_traffic_of_a_program():
    copy = 256  # read; what is written stays on the chip
    gather = 64 + 256
    fusion, broadcast, slices = 256 + 32, 4 + 400, 400 + 40
    loop, branch = 5 * 800, 2 * 80  # the longer branch
    assert plan_hlo.summary(PROGRAM)["traffic"] == copy + gather + fusion + broadcast + slices + loop + branch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f32[2,3]{1,0}", [(24, True)]),
        ("(bf16[4]{0:T(8,128)(2,1)S(1)}, /*index=1*/u8[0]{0}, pred[])", [(8, False), (0, True), (1, True)]),
        ("s64[3]{0}", [(24, True)]),
    ],
)
def test_shapes(text, expected):
    assert list(plan_hlo.arrays(text)) == expected


def test_a_real_program_on_two_devices():
    """What JAX itself compiles here: the gradient of a sum over a batch that two devices share is one all-reduce."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def place(*axes):
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))

    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=place("data"))
    w = jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=place())
    step = jax.jit(jax.grad(lambda w, x: jnp.square(x @ w).sum()), out_shardings=place())
    found = plan_hlo.summary(step.lower(w, x).compile().as_text())
    assert found["collectives"] == {"all-reduce": {"count": 1, "bytes": 256, "wire": 256}}
    assert found["traffic"] > 2 * 256


def flops(function, *shapes):
    return plan_flops.total(jax.make_jaxpr(function)(*[jnp.zeros(shape) for shape in shapes]).jaxpr)


def test_flops_by_hand():
    product = 2 * 3 * 4 * 5
    assert flops(jnp.matmul, (3, 4), (4, 5)) == product
    assert flops(lambda x: lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0], (3, 3)) == 7 * 2 * 27
    assert flops(lambda x: lax.platform_dependent(x, cpu=lambda a: a, default=lambda a: a @ a), (3, 3)) == 2 * 27
    assert flops(lambda x: lax.cond(x[0, 0] > 0, lambda a: a @ a, lambda a: a, x), (3, 3)) == 2 * 27


def test_flops_of_convolutions_and_their_gradients_are_equal():
    def conv(x, kernel, groups=1):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (2, 2), "VALID", dimension_numbers=numbers, feature_group_count=groups
        )

    x, kernel, forward = (2, 8, 8, 6), (2, 2, 6, 10), 2 * (2 * 4 * 4 * 10) * (2 * 2 * 6)
    assert flops(conv, x, kernel) == forward
    for argument in (0, 1):  # patches side by side: no padding, so each gradient has as many products
        gradient = jax.grad(lambda *a: conv(*a).sum(), argument)
        assert flops(gradient, x, kernel) == pytest.approx(2 * forward)
    assert flops(lambda a, b: conv(a, b, 6), x, (2, 2, 1, 6)) == 2 * (2 * 4 * 4 * 6) * 4


def test_recomputation_counts():
    def block(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w).sum()

    plain, again = (flops(jax.grad(f), (3, 3), (3, 3)) for f in (block, jax.checkpoint(block)))
    assert plain == 4 * 54 and again == 6 * 54


def found(**changes):
    return {
        "chip": "v5e",
        "topology": "4x4",
        "device": "TPU v5 lite",
        "devices": 16,
        "model": "net",
        "compute": "bfloat16",
        "remat": "blocks",
        "fsdp": 4,
        "batch": 1600,
        "image_size": 224,
        "seconds": 12.0,
        "flops": 197e9,  # 1 ms
        "traffic": 1638e6,  # 2 ms
        "collectives": {"all-reduce": {"count": 3, "bytes": 5e7, "wire": 1e8}},  # 0.5 ms
        "memory": {
            "arguments": 5_000_000_000,
            "outputs": 4_000_000_000,
            "aliased": 3_900_000_000,
            "temporaries": 2_000_000_000,
            "program": 100_000_000,
            "state": {"params": 1_000_000_000, "opt_state": 2_000_000_000, "average": 1_000_000_000, "teacher": 0},
        },
    } | changes  # fmt: skip


def test_roofline_by_hand():
    estimate = plan_roofline.estimate(found(), CHIPS["v5e"])
    assert estimate["bound"] == "memory"
    assert [estimate[k] for k in ("arithmetic", "memory", "messages")] == pytest.approx([1e-3, 2e-3, 0.5e-3])
    assert estimate["best"] == pytest.approx(1600 / 2e-3) and estimate["worst"] == pytest.approx(1600 / 3.5e-3)
    assert plan_roofline.peak(found()["memory"]) == 7_200_000_000


def test_several_nodes_talk_at_the_rate_of_the_network():
    one, two = (plan_roofline.estimate(found(devices=n), CHIPS["h100"])["messages"] for n in (8, 16))
    assert (one, two) == pytest.approx((1e8 / 450e9, 1e8 / 50e9))


def test_chips():
    for name, chip in CHIPS.items():
        assert re.search(r"https://", chip.source), name
        assert 1e14 < chip.flops < 1e16 and 1e10 < chip.memory < 1e12 and chip.link < chip.bandwidth < chip.flops
        assert (chip.platform == "cuda") == bool(chip.config) == bool(chip.node) == bool(chip.network)


def test_targets():
    assert plan_chips.target("v5e", topology="16x16", devices=0)["topology"] == "v5e:16x16"
    assert plan_chips.target("h100", topology="", devices=4)["topology"] == "1x1x4"
    assert plan_chips.target("h100", topology="", devices=32)["topology"] == "1x4x8"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--chip=a100"], "--chip: expected one of v5e, v5p, v6e, h100, found 'a100'"),
        (["--chip=v5e", "--devices=8"], "--topology: a TPU v5e needs chips per axis"),
        (["--chip=v5e", "--topology=16"], "--topology: a TPU v5e needs chips per axis"),
        (["--chip=h100", "--topology=4x4"], "--devices: a machine of NVIDIA H100 SXM needs their number"),
        (["--chip=h100", "--devices=12"], "--devices: 12 are no whole nodes of 8"),
        (["--chip=h100", "--devices=8", "--classes=1"], "--classes: expected 2 or more"),
    ],
)
def test_what_cannot_be_planned_ends_in_one_sentence(argv, message, capsys):
    assert plan.main(["--config=configs/emoji.py", *argv]) == 2
    assert capsys.readouterr().err.startswith(f"plan: {message}")


def test_errors_of_the_compilation_are_passed_on(tmp_path, monkeypatch):
    """A stand-in for the environment's interpreter."""
    python = tmp_path / "python"
    monkeypatch.setattr(plan_env, "python", lambda platform: python)
    question = plan.request(*plan.arguments(["--chip=h100", "--devices=8", "--config.batch_size=9"]))
    assert question["arguments"] == ["--config.batch_size=9"]
    for said, message in (
        (
            """echo 'plan: {"error": "error: config.batch_size: 9 images cannot be shared"}'; exit 2""",
            "config.batch_size",
        ),
        ("echo Traceback >&2; echo 'Error: no plug-in' >&2; exit 1", "compiling ended with code 1: Error: no plug-in"),
    ):
        python.write_text(f"#!/bin/sh\n{said}\n")
        python.chmod(0o755)
        with pytest.raises(PlanError, match=message):
            plan.asked(question)


def test_an_environment_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no such package' >&2; exit 1\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(PlanError, match="the environment for tpu could not be made: no such package"):
        plan_env.python("tpu")


def test_the_page_is_made_from_its_json():
    one = found()
    plans = {
        "net on 16": {**one, "roofline": plan_roofline.estimate(one, CHIPS["v5e"]), "arguments": ["--config=a.py"]}
    }
    old = f"# Scaling\n\nabove\n\n{plan_page.MARKS[0]}\nold numbers\n{plan_page.MARKS[1]}\n\nbelow\n"
    text = plan_page.page(plans, old)
    assert text.startswith("# Scaling\n\nabove\n\n") and text.endswith("\n\nbelow\n") and "old numbers" not in text
    assert (
        "| net on 16 | 1600 / 16 | 4 | blocks | 1.00 GB | 2.00 GB | 1.00 GB | 5.00 GB | 2.00 GB | "
        "7.20 GB of 16.00 GB | yes |" in text
    )
    assert "| 1.0 | 2.0 | 0.5 | 457,143 to 800,000 |" in text and "3 all-reduce, 0.05 GB" in text
    assert "plan.py page --update='net on 16' --chip=v5e --topology=4x4 --config=a.py" in text
    assert plan_page.page(plans, text) == text
    assert not plan_page.fits(found(memory={**one["memory"], "temporaries": 11_000_000_000}))


def test_the_page_in_the_repository_is_what_its_json_says():
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert plan_page.page(json.loads((ROOT / "docs" / "scaling.json").read_text()), text) == text
