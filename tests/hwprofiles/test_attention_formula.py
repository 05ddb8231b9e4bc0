"""The attention formula by hand: blocks over the SMs, what a block costs besides its keys, the softmax, head sizes, laws."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.attention import AttentionConstants, CoreLimits, attention_constants, core_limits, core_seconds
from hwprofiles.kernels.attention_libraries import LIBRARIES, NEWEST, padded_v
from hwprofiles.kernels.shape import Document, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_choice import load_stack
from tests.hwprofiles.test_kernel_table import parameter, stack

LIMITS = CoreLimits(peak=1e15, num_sms=100, clock_hz=2e9, rows=128, keys=128)
CONSTANTS = AttentionConstants(t0_s=20e-6, c_tokens=680.0, rate_share=0.5, tail=0.1)
CALL = KernelShape("attention_fwd", batch=4, seq=12_800, heads=100, kv_heads=100, head_dim_qk=128, head_dim_v=128)


def test_many_blocks_cost_flop_over_rate_and_c_over_seq() -> None:
    """40,000 blocks on 100 SMs: 1 + c / seq, and a tenth of the longest block at the end."""
    flop = CALL.attention_flop
    longest = (12_800 + 680 / 2 - 128) * 128 * 512 * 100 / (0.5 * 1e15)
    expected = 20e-6 + flop * (1 + 680 / 12_800) / (0.5 * 1e15) + 0.1 * longest
    assert core_seconds(CONSTANTS, LIMITS, "", CALL) == pytest.approx(expected, rel=1e-12)


def test_few_heads_leave_sms_idle() -> None:
    """10 heads of 1,280 tokens are 100 blocks, one an SM: half as many heads take as long, twice as many do not fit beside."""
    call = replace(CALL, batch=1, seq=1280, heads=10)
    times = [core_seconds(CONSTANTS, LIMITS, "", replace(call, heads=heads)) - 20e-6 for heads in (5, 10, 20)]
    pair = 512 * 100 / (0.5 * 1e15)
    assert times[0] == pytest.approx((1280 + 680 / 2 - 128) * 128 * pair)
    assert times[1] == pytest.approx((1280 / 2 + 340 + 0.1 * (1280 + 212)) * 128 * pair, rel=0.55)
    assert times[2] > 1.4 * times[1]


def packed(*documents: tuple[int, float]) -> KernelShape:
    """Documents of (tokens, how many)."""
    found = tuple(Document(length, length, number, length / 2) for length, number in documents)
    return replace(CALL, documents=found, flop=sum(512.0 * 100 * n * length**2 / 2 for length, n in documents))


def test_packed_documents_are_the_blocks_of_each() -> None:
    """As many as sequences of their own; of unequal ones the last SM ends with the longest document's longest block."""
    whole = core_seconds(CONSTANTS, LIMITS, "", CALL)
    assert core_seconds(CONSTANTS, LIMITS, "", packed((12_800, 4))) == pytest.approx(whole, rel=1e-12)
    pair = 512 * 100 / (0.5 * 1e15)
    mixed = core_seconds(CONSTANTS, LIMITS, "", packed((6400, 6), (1600, 3)))
    blocks = 6 * 50 * (6400 / 2 + 340) + 3 * 13 * (1600 / 2 + 340)
    assert mixed == pytest.approx(20e-6 + (blocks + 0.1 * (6400 + 212)) * 128 * pair)
    halved = core_seconds(CONSTANTS, LIMITS, "", packed((6400, 0.5), (3200, 5)))
    blocks = 0.5 * 50 * (3200 + 340) + 5 * 25 * (1600 + 340)
    assert halved == pytest.approx(20e-6 + (blocks + 0.1 * ((6400 + 3200) / 2 + 212)) * 128 * pair), (
        "every second call has one"
    )


def test_a_full_mask_runs_in_waves() -> None:
    """101 blocks on 100 SMs wait for a tenth of a second wave; 100 for none."""
    call = replace(CALL, batch=1, seq=128, causal=False)
    block = (128 + 680 / 2 - 128) * 128 * 512 * 100 / (0.5 * 1e15)
    for heads, waves in ((50, 1.0), (100, 1.0), (101, 1.01 + 0.1 * 0.99), (200, 2.0)):
        assert core_seconds(CONSTANTS, LIMITS, "", replace(call, heads=heads)) == pytest.approx(20e-6 + waves * block)


def test_the_softmax_of_a_pair_is_clocks_of_an_sm() -> None:
    """0.05 clocks at 2 GHz on 100 SMs are 128 FLOP of this peak at half rate: a quarter of the 512 of two products."""
    soft = replace_constants(softmax_clocks=0.05)
    more = core_seconds(soft, LIMITS, "", CALL) - 20e-6
    assert more / (core_seconds(CONSTANTS, LIMITS, "", CALL) - 20e-6) == pytest.approx(1 + 0.05 / 2e9 * 0.5e13 / 512)


def test_scores_in_memory_are_those_of_all_pairs() -> None:
    """Masked ones too: a causal call takes as long as one without a mask, its time its bytes over the bandwidth and its FLOP
    over the rate of GEMMs.
    """
    gpu = load_gpu("a100")
    call = KernelShape("attention_fwd", batch=8, seq=2048, heads=16, kv_heads=16, head_dim_qk=128, head_dim_v=128)
    for op, num_bytes, gemms in (("attention_fwd", 12, 2), ("attention_bwd", 17, 4)):
        asked = replace(call, op=op, library="unfused")
        causal, full = (
            kernel_seconds(replace(asked, causal=each), load_stack("a100-public"), gpu, "alone").seconds
            for each in (True, False)
        )
        pairs = 8 * 16 * 2048.0**2
        by_hand = pairs * (num_bytes / (0.8 * gpu.hbm_bytes_per_s) + gemms * 256 / (0.6 * 312e12))
        assert causal == pytest.approx(full)
        assert full == pytest.approx(by_hand, rel=0.02)


@pytest.mark.parametrize(("name", "peak"), [("h100", 989e12), ("gb200", 2450e12)])
def test_scores_in_memory_on_newer_gpus_have_no_dropout(name: str, peak: float) -> None:
    """Transformer Engine's unfused core: 7 bytes of a pair forward, 12 backward, 2 and 4 GEMMs; values narrower than keys."""
    gpu = load_gpu(name)
    call = KernelShape("attention_fwd", batch=1, seq=4096, heads=64, kv_heads=64, head_dim_qk=192, head_dim_v=128)
    for op, num_bytes, flop in (("attention_fwd", 7, 640), ("attention_bwd", 12, 1280)):
        asked = replace(call, op=op, library="unfused")
        seconds = kernel_seconds(asked, load_stack(f"{name}-public"), gpu, "alone").seconds
        by_hand = 64 * 4096.0**2 * (num_bytes / (0.8 * gpu.hbm_bytes_per_s) + flop / (0.6 * peak))
        assert seconds == pytest.approx(by_hand, rel=0.06)


def replace_constants(**changes: float) -> AttentionConstants:
    return replace(CONSTANTS, **changes)


def test_a_head_between_a_library_s_sizes_is_computed_as_the_next() -> None:
    odd, next_size = (replace(CALL, head_dim_qk=size, head_dim_v=size) for size in (160, 192))
    assert core_seconds(CONSTANTS, LIMITS, "fa2", odd) == pytest.approx(
        core_seconds(CONSTANTS, LIMITS, "fa2", next_size)
    )
    assert core_seconds(CONSTANTS, LIMITS, "", odd) < 0.9 * core_seconds(CONSTANTS, LIMITS, "", next_size)
    narrow = replace(CALL, head_dim_qk=96, head_dim_v=96)
    assert core_seconds(CONSTANTS, LIMITS, "cudnn", narrow) == pytest.approx(
        core_seconds(CONSTANTS, LIMITS, "cudnn", CALL)
    )


def test_blocks_are_the_library_s_on_the_family() -> None:
    rows = [
        core_limits(load_gpu(gpu), "bf16", direction, library).rows
        for gpu, direction, library in (
            ("h100", "fwd", "cudnn"), ("b200", "fwd", "cudnn"), ("b200", "bwd", "cudnn"), ("b200", "fwd", "fa2"),
        )
    ]  # fmt: skip
    assert rows == [128, 256, 128, 128]


def test_libraries_name_families_and_sources_and_serve_what_they_run_on() -> None:
    for family, names in NEWEST.items():
        assert all(family in LIBRARIES[name].families for name in names)
    assert all(library.source and library.since >= "2019" for library in LIBRARIES.values())
    assert (padded_v("fa2", 192, 128), padded_v("fa3", 192, 128), padded_v("", 192, 128)) == (192, 128, 128)


def seconds(gpu: str, shape: KernelShape) -> float:
    return kernel_seconds(shape, load_stack(f"{gpu}-public"), load_gpu(gpu), "alone").seconds


RUNS = [
    (gpu, name) for gpu in ("a100", "h100", "b200", "gb200") for name in ("", *NEWEST[load_gpu(gpu).family])
    if name != "cudnn-2024" or gpu == "h100"
]  # fmt: skip
runs = st.sampled_from(RUNS)
heads = st.sampled_from([1, 4, 8, 16, 64, 128])
lengths = st.integers(128, 40_000)
passes = st.sampled_from(["attention_fwd", "attention_bwd"])


def core(op: str, library: str, num_heads: int, seq: int, **changes: object) -> KernelShape:
    sizes = {"batch": 1, "head_dim_qk": 128, "head_dim_v": 128, **changes}
    return KernelShape(op, seq=seq, heads=num_heads, library=library, **sizes)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    runs,
    passes,
    heads,
    lengths,
    st.sampled_from([1, 2, 3]),
    st.integers(0, 4000),
    st.sampled_from([64, 96, 128, 192, 256]),
)
def test_more_work_is_never_faster(
    run: tuple[str, str], op: str, num_heads: int, seq: int, times: int, longer: int, head: int
) -> None:
    gpu, library = run
    one = core(op, library, num_heads, seq, head_dim_qk=head, head_dim_v=head)
    base = seconds(gpu, one)
    for more in (replace(one, heads=num_heads * times), replace(one, batch=times), replace(one, seq=seq + longer)):
        assert seconds(gpu, more) >= base * (1 - 1e-9)
    assert seconds(gpu, replace(one, causal=False)) >= base * (1 - 1e-9)


@pytest.mark.parametrize(("gpu", "library"), RUNS)
@pytest.mark.parametrize("op", ["attention_fwd", "attention_bwd"])
def test_a_larger_head_is_never_faster(gpu: str, library: str, op: str) -> None:
    sizes = (32, 64, 72, 80, 96, 112, 128, 160, 192, 224, 256)
    times = [seconds(gpu, core(op, library, 32, 8192, head_dim_qk=size, head_dim_v=size)) for size in sizes]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(times))


@settings(max_examples=40, deadline=None)
@given(runs, passes, heads, lengths, st.floats(0.01, 1.0))
def test_a_window_is_never_slower_than_none(
    run: tuple[str, str], op: str, num_heads: int, seq: int, share: float
) -> None:
    full = core(op, run[1], num_heads, seq)
    window = replace(full, flop=share * full.attention_flop)
    assert seconds(run[0], window) <= seconds(run[0], full) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(passes, st.sampled_from([16, 32, 128]), st.integers(2048, 32_768), st.sampled_from([64, 128, 192, 256]))
def test_a_newer_library_is_faster_on_hopper(op: str, num_heads: int, seq: int, head: int) -> None:
    """FlashAttention-2 never beats FlashAttention-3 or cuDNN there."""
    old, *newer = (
        seconds("h100", core(op, library, num_heads, seq, head_dim_qk=head, head_dim_v=head))
        for library in ("fa2", "fa3", "cudnn")
    )
    assert old > max(newer)


def test_flashattention_2_over_3_on_hopper_is_as_published() -> None:
    """arXiv:2407.08608 at heads of 128 and 16K tokens: forward 335 / 616, 370 / 648; backward 322 / 561."""
    for op, low, high in (("attention_fwd", 0.54, 0.6), ("attention_bwd", 0.55, 0.67)):
        for causal in (True, False):
            three, two = (seconds("h100", core(op, name, 16, 16_384, causal=causal)) for name in ("fa3", "fa2"))
            assert low - 0.02 < three / two < high + 0.02


def test_the_range_is_that_of_the_rate_and_of_what_was_left_out() -> None:
    """A rate of 0.5 (0.4 to 0.6) and a residual of 0.9 to 1.1: 0.9 x 0.5 / 0.6 to 1.1 x 0.5 / 0.4 of the seconds."""
    keys = {"rate_share": (0.5, 0.4, 0.6), "residual": (1.0, 0.9, 1.1), "t0_s": (1e-6,) * 3, "c_tokens": (600.0,) * 3}
    own = {f"attention.bf16.fwd.{name}": parameter(*triple) for name, triple in keys.items()}
    found = attention_constants(stack(**own), CALL)
    assert found is not None and found[0] == ""
    assert (found[2].low, found[2].high) == pytest.approx((0.75, 1.375))


def test_a_block_that_is_not_full_takes_as_long_as_a_full_one() -> None:
    """129 tokens are two blocks of 128: 200 heads are 400 blocks on 100 SMs, four waves."""
    call = replace(CALL, batch=1, seq=129, heads=200, causal=False)
    block = (129 + 680 / 2 - 128) * 128 * 512 * 100 / (0.5 * 1e15)
    assert core_seconds(CONSTANTS, LIMITS, "", call) == pytest.approx(20e-6 + 4 * block)


def test_between_two_head_sizes_the_seconds_of_a_pair_are_on_a_line() -> None:
    """64 / 0.5 = 128, 128 / 0.8 = 160: an eighth of the way is 132, the share 72 / 132."""
    values = {"t0_s": 1e-6, "c_tokens": 0.0, "residual": 1.0, "d64.rate_share": 0.5, "d128.rate_share": 0.8}
    known = stack(**{f"attention.bf16.fwd.{name}": parameter(value) for name, value in values.items()})
    found = attention_constants(known, replace(CALL, head_dim_qk=72, head_dim_v=72))
    assert found is not None
    assert found[1].rate_share == pytest.approx(72 / 132)
