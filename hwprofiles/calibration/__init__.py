"""Tools that make numbers of the catalogue, and the model that they time; no prediction needs them. Anyone may run them again:

    model          DeepSeek-V3's architecture in torch, at any size; numerics: the formats in which it computes
    parallel       the same model on several processes: expert parallel, pipelines by any schedule that the simulator prints
    counting       what torch counts of it, FLOP and bytes kept; tests compare that with the simulator's counts
    several        all GPUs of a host, torch: messages by SMs and beside a product, expert-parallel layers and models, pipelines
                   in any order that `moesim schedule` prints, models whose parameters are shared; on a CPU two processes
    train          a small one trained on real text, with and without balancing, in BF16 and FP8
    errors, extra, command  what every tool says of bad input, and where torch (extra [calibrate]) is not installed; how files
                   are written
    proof          one NVIDIA GPU, torch: layers of it alone and training steps of seven models (proof_cases), in several ways;
                   validation/proof predicts the same cases from a stack, before they are measured
    step_times     one NVIDIA GPU, torch: a training step of a slice of DeepSeek-V3 by it, and its parts, in each recipe.
                   Gave measurements/h100-model-step-2026-11-27.csv and h200-model-step-2026-11-27.csv; numerics.check gave
                   h200-model-products-2026-11-27.csv, parallel.check h200x4-expert-parallel-2026-11-27.csv
    kernels        FP8 products of this project's own, and what makes their operands; kernel_bench: are they right, how fast are
                   they beside torch's
    calibrate      `moesim calibrate` (or python -m hwprofiles.calibration calibrate): kernels by every library (rates), also on
                   fewer SMs, host, power and messages of this machine (machine), fitted to constants (fits): a stack folder;
                   `… compare DIR OTHER` holds two of them side by side, `… renew` measures some libraries' kernels again for
                   one, `… refit` fits one anew (__main__ is where these commands are)
    proof, library_steps  one NVIDIA GPU, torch: layers and steps of this project's model, and steps of a library's models
                   (library_models), which predictions are held against
                   Tools before it gave measurements/*-kernel-rates-*, h100-sm-partition-2026-11-24 and
                   hopper-layer-mix-2026-11-24, whose YAML names their commits
    collectives_beside  all NVIDIA GPUs of a host, torch (extra [calibrate]): NCCL collectives alone, and they and a layer's
                   kernels beside one another. Gave measurements/h200x8-nccl-2026-11-27.csv and h200x8-beside-2026-11-27.csv
    collectives_together  all NVIDIA GPUs of a host, torch: NCCL messages alone and two at a time. Gave
                   measurements/h200x4-together-2026-11-27.csv
    collectives_power  the same: watts and speed of kernels beside messages for seconds. Gave
                   measurements/h200x4-beside-power-2026-11-27.csv
    packed_attention, host_copies  attention inside packed documents; copies to the host and back. Gave
                   measurements/h200-packed-attention-2026-11-27.csv and h200-host-copies-2026-11-27.csv
    host_dispatch  one NVIDIA GPU, torch: what the processor needs to issue operators, modules, collectives, graphs and whole
                   layers (host). Gave measurements/h100-host-dispatch-2026-11-27.csv, from it hosts/dispatch
    context_parallel  all NVIDIA GPUs of a host, torch: attention over a sequence that is cut over them, in three ways
                   (measure). Gave measurements/h200x4-context-parallel-2026-11-27.csv
    power_sweep    one NVIDIA GPU, torch: watts, clock and speed of kernels alone, in mixes and with idle time between,
                   from the first launches to the power limit (power_kernels; nvml reads the board's energy counter). Gave
                   measurements/h100-power-2026-11-27.csv and h200-power-2026-11-27.csv, from them
                   (power_fit) `power.*` of stacks/transfer
    steady_power   one NVIDIA GPU, torch: a layer's kernels (layer_kernels) over minutes, beside held SMs and behind idle
                   times. Gave measurements/h100-steady-power-2026-11-27.csv, from it `power.window_s` and `power.warm_speed` of
                   stacks/transfer
    class_ranges   no GPU: how far whole classes of kernels are off where a library or a GPU is left out. Gave
                   kernels/class_ranges.yaml
    fit            no GPU, numpy alone: fits the constants of GEMMs (gemm_fit to what gemm_families lists, judged and printed
                   by gemm_groups) and of attention (attention_fit; attention_families says to which rows,
                   attention_published and attention_amd hold figures) to our own rates (rates_points) and to tables of public
                   benchmarks,
                   whose columns and origin reference_points states; of rings (ring_fit) and power (power_fit). `rows`
                   prints stacks/h800-notrace's kernels.csv (notrace_rows). Gave `gemm.*` and `attention.*` of the stacks and
                   of stacks/transfer

The programs that measure (what they share is in measuring, of those with all GPUs of a host in all_gpus) write one JSON
document of what they measured (packed_attention: a CSV; calibrate: a folder); its YAML says which columns are which.
"""
