"""A stack given as the path of its folder: where paths start, what the result says of it, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_folders import GIVEN, given_folders
from simulator import load_scenario
from simulator.cli.app import main
from simulator.errors import InputError
from simulator.scenario.layers import ScenarioText
from simulator.scenario.scenario import Scenario
from tests.stack_folder import GPU, SOURCE, write_folder

SCENARIO = """\
schema_version: 1
model: {name: tiny, hidden_size: 1024, num_layers: 2, vocab_size: 32000, num_dense_layers: 2,
  dense_ffn: {intermediate_size: 4096}, attention: {kind: gqa, num_heads: 8, num_kv_heads: 8, head_dim: 128}}
cluster: {node: %s, num_gpus: 8}
training: {seq_len: 2048, global_batch_size: 8}
draws: 1
"""
ENTRY = f": {{value: 0.7, unit: '1', {SOURCE}}}\n"
INLINE = (
    "{gpu: mycard, gpus_per_node: 8, scale_up_name: link, scale_up_bytes_per_s: 200 GB/s, scale_up_domain_gpus: 8, "
    "nic_bytes_per_s: 400 Gb/s, nics_per_node: 8}"
)


def write_scenario(folder: Path, *lines: str, node: str = "h100-x8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(SCENARIO % node + "".join(f"{line}\n" for line in lines))
    return path


def load_with(folder: Path) -> Scenario:
    return load_scenario(write_scenario(folder.parent), [f"stack={folder}"])


def refused(folder: Path, file: str = "") -> str:
    """The one error of a scenario beside `folder` that names it."""
    path = write_scenario(folder.parent, f"stack: ./{folder.name}")
    with pytest.raises(InputError) as error:
        load_scenario(path)
    return str(error.value)


def test_a_path_starts_from_the_file_that_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "cluster" / "my-h100")
    path = write_scenario(tmp_path / "cluster", "stack: ./my-h100")
    scenario = load_scenario(path)
    stack = load_stack(scenario.stack)
    assert scenario.stack.startswith("my-h100@") and str(tmp_path) not in json.dumps(scenario.canonical())
    assert stack.parameters["memory.adamw"].value == 0.77
    monkeypatch.chdir(tmp_path)
    assert load_scenario(path, ["stack=cluster/my-h100"]).stack == scenario.stack
    with pytest.raises(InputError, match=r"overrides\[0\]: stack: my-h100: there is no such folder"):
        load_scenario(path, ["stack=./my-h100"])
    assert load_scenario(scenario.canonical()).stack == scenario.stack


def test_wherever_the_folder_lies_the_bytes_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for place in ("here", "far/away"):
        folder = write_folder(tmp_path / place / "my-h100")
        assert main(["run", str(write_scenario(folder.parent)), "--json", "--set", f"stack={folder}"]) == 0
        documents.append(capsys.readouterr().out)
    assert documents[0] == documents[1]
    found = json.loads(documents[0])
    assert (found["stack"], found["stack_kind"]) == ("my-h100", "measured")
    other = write_folder(tmp_path / "measured-again" / "my-h100", scale=1.1)
    assert load_stack(load_with(other).stack).sha256 != found["stack_sha256"]


def test_two_folders_of_one_name_are_two_stacks(tmp_path: Path) -> None:
    scenarios = [
        load_with(write_folder(tmp_path / place / "my-h100", scale=scale)) for place, scale in (("a", 1.0), ("b", 2.0))
    ]
    first, second = (load_stack(scenario.stack) for scenario in scenarios)
    assert first.kernels.rows[0].seconds * 2 == second.kernels.rows[0].seconds


def test_a_stack_of_another_gpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my-h100", gpu="h200")
    text = refused(folder)
    assert "mine.yaml:7: stack: my-h100 is of GPU h200, but cluster.node has h100; use h100-public" in text
    assert "@" not in text


def test_a_folder_may_bring_its_gpu(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", gpu="mycard")
    (folder / "gpu.yaml").write_text(GPU)
    text = refused(folder)
    assert "mine is of GPU mycard, but cluster.node has h100; write cluster.node as a mapping with gpu: mycard" in text
    path = write_scenario(tmp_path, "stack: ./mine", node=INLINE)
    scenario = load_scenario(path)
    assert load_stack(scenario.stack).gpu.startswith("mycard.")
    assert main(["run", str(path)]) == 0
    (folder / "gpu.yaml").write_text(GPU.replace("64 GB", "48 GB"))
    again = load_scenario(path)
    assert again.cluster.node != scenario.cluster.node and again.stack != scenario.stack


def test_a_shipped_name_of_a_gpu_is_not_taken_twice(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", gpu="h100")
    (folder / "gpu.yaml").write_text(GPU.replace("mycard", "h100"))
    assert "gpu.yaml:1: name: the catalogue has a GPU called h100" in refused(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("provenance.yaml", None, "my-h100: is no stack: it has no provenance.yaml; `moesim calibrate -o DIR` writes one"),
        ("provenance.yaml", "gpu: h100\n", "provenance.yaml:1: description: is missing"),
        ("kernels.csv", "time,what\n1,2\n", "kernels.csv:1: columns missing"),
        ("parameters.yaml", "memory.adamw: {value: 0.7, un", "parameters.yaml:1:"),
        ("parameters.yaml", "memory.adammw" + ENTRY, "parameters.yaml:1: memory.adammw: unknown"),
        ("parameters.yaml", "memory.copy.torch.latency" + ENTRY, "memory.copy.torch.latency: unknown constant"),
        ("parameters.yaml", "memory.copy.latency" + ENTRY, "unknown constant 'latency'; did you mean latency_s?"),
        ("parameters.yaml", "memory.copy.element_per_s" + ENTRY, "did you mean elements_per_s?"),
        ("parameters.yaml", "memory.launch_floor_s.p" + ENTRY, "unknown constant 'p'"),
        ("parameters.yaml", "gemm.bf16.etta" + ENTRY, "unknown constant 'etta'"),
        ("parameters.yaml", "gemm.bf16.eta" + ENTRY, "gemm.bf16.eta: constants of a GEMM family belong"),
        ("parameters.yaml", "turbo.speed" + ENTRY, "turbo.speed: unknown key"),
        ("parameters.yaml", "overlap.gemm.ratio" + ENTRY, "is measured together with overlap.at"),
    ],
)  # fmt: skip
def test_a_bad_folder_is_named_by_file_and_line(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    folder = write_folder(tmp_path / "my-h100")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    assert words in refused(folder)


def test_a_cut_table_an_unfinished_calibration_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "my-h100")
    table = folder / "kernels.csv"
    table.write_text(table.read_text()[:-40])
    assert "kernels.csv:3: the number of cells differs" in refused(folder)
    (folder / "provenance.yaml").unlink()
    (folder / "points.csv").write_text("op\n")
    assert "the calibration is not finished" in refused(folder)
    assert main(["run", str(write_scenario(tmp_path)), "--set", f"stack={table}"]) == 2
    captured = capsys.readouterr()
    assert "is a file, and a stack is a folder" in captured.err and not captured.out


def test_a_table_cut_at_the_end_of_a_line_is_told_by_its_number_of_rows(tmp_path: Path) -> None:
    """Where the folder states it; one that does not is read as it stands."""
    folder = write_folder(tmp_path / "my-h100")
    table, provenance = folder / "kernels.csv", folder / "provenance.yaml"
    whole, lines = table.read_text(), table.read_text().splitlines(keepends=True)
    provenance.write_text(provenance.read_text().replace("torch: ", f"kernel_rows: {len(lines) - 1}, torch: "))
    load_with(folder)
    table.write_text("".join(lines[:-1]))
    told = refused(folder)
    assert (
        f"kernels.csv: holds {len(lines) - 2} rows, and by provenance.yaml (calibration.kernel_rows) {len(lines) - 1}"
        in told
    )
    table.unlink()
    assert "kernels.csv: holds 0 rows" in refused(folder)
    table.write_text(whole)
    load_with(folder)


def test_a_device_of_another_gpu_than_the_stack_says_is_told(tmp_path: Path) -> None:
    """The folder's device is an H100's."""
    write_folder(tmp_path / "mine", gpu="h200")
    told = [
        line
        for line in load_scenario(write_scenario(tmp_path, "stack: ./mine", node="h200-x8")).warnings
        if "stack" in line
    ]
    assert any(
        "mine says that it is of h200, and was measured on a NVIDIA H100 80GB HBM3, which is h100" in line
        for line in told
    )
    write_folder(tmp_path / "yours")
    right = load_scenario(write_scenario(tmp_path, "stack: ./yours")).warnings
    assert not any("says that it is of" in line for line in right)


def test_a_stack_may_have_a_thousand_parameters(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my-h100")
    sizes = (f"attention.bf16.fwd.cudnn.d{size}.rate_share" for size in range(1, 1001))
    with (folder / "parameters.yaml").open("a") as file:
        file.writelines(f"{key}{ENTRY}" for key in sizes)
    assert "attention.bf16.fwd.cudnn.d999.rate_share" in load_stack(load_with(folder).stack).parameters


def test_an_empty_folder_holds_no_stack(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my-h100")
    (folder / "kernels.csv").unlink()
    (folder / "parameters.yaml").unlink()
    assert "holds no measurement" in refused(folder)


def test_strangers_name_no_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "my-h100")
    data = load_scenario(write_scenario(tmp_path)).canonical() | {"stack": str(tmp_path / "my-h100")}
    with pytest.raises(InputError, match="stack: names a folder"):
        load_scenario(data, reads_files=False)
    with pytest.raises(InputError, match="the stack of a folder that is not open here; give the folder"):
        load_scenario({**data, "stack": "my-h100@0123456789ab"}, reads_files=False)


def test_an_old_calibration_is_told_at_the_start_date(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my-h100", date="2026-11-20")
    path = write_scenario(tmp_path, "stack: ./my-h100")
    assert not any("months old" in line for line in load_scenario(path, ["start_date=2027-11-20"]).warnings)
    warnings = load_scenario(path, ["start_date=2028-01-05"]).warnings
    assert any("my-h100 is of 2026-11-20, 13 months old at 2028-01-05" in line for line in warnings)
    assert any("measure again with `moesim calibrate`" in line for line in warnings)
    (folder / "provenance.yaml").write_text((folder / "provenance.yaml").read_text() + "good_for_months: 24\n")
    assert not any("months old" in line for line in load_scenario(path, ["start_date=2028-01-05"]).warnings)


def test_a_limit_below_the_board_s_is_told_where_the_scenario_is_silent(tmp_path: Path) -> None:
    write_folder(tmp_path / "my-h100", watts=500.0)
    path = write_scenario(tmp_path, "stack: ./my-h100")
    told = [line for line in load_scenario(path).warnings if "power_cap_w" in line]
    assert len(told) == 1 and "my-h100 was measured under a limit of 500 W, and h100 is taken at its 700 W" in told[0]
    assert not any("was measured under" in line for line in load_scenario(path, ["device.power_cap_w=500"]).warnings)
    whole = write_folder(tmp_path / "whole", watts=700.0)
    assert not any("was measured under" in line for line in load_scenario(path, [f"stack={whole}"]).warnings)


def test_a_process_may_know_folders_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What strangers send may then name them, by name or by any path that ends so, and nothing else of the machine."""
    folder = write_folder(tmp_path / "my-h100")
    text = write_scenario(tmp_path, "stack: ./my-h100").read_text()
    monkeypatch.setenv(GIVEN, str(folder))
    given_folders.cache_clear()
    loaded = load_scenario(ScenarioText(text), reads_files=False)
    assert loaded.stack == load_with(folder).stack == given_folders()["my-h100"]
    assert load_scenario(ScenarioText(text), ["stack=my-h100"], reads_files=False).stack == loaded.stack
    with pytest.raises(InputError, match="one of the folders that it was started with"):
        load_scenario(ScenarioText(text), [f"stack={tmp_path}"], reads_files=False)
    monkeypatch.delenv(GIVEN)
    given_folders.cache_clear()


def test_a_dashboard_refuses_a_folder_that_is_no_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given_folders.cache_clear()
    assert main(["dashboard", "--no-browser", "--stack", str(tmp_path)]) == 2
    assert "is no stack: it has no provenance.yaml" in capsys.readouterr().err
    os.environ.pop(GIVEN)
    given_folders.cache_clear()
