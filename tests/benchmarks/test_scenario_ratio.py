"""Law: on the graph of a scenario's own step the compiled sweep is at least 500 times as fast as simpy; by hand."""

import json

import pytest

from simulator.cli.app import main

pytestmark = pytest.mark.benchmark_ratio


@pytest.mark.parametrize("preset", ["deepseek-v3"])
def test_sweep_over_simpy(preset, capsys):
    assert main(["bench", preset, "--json", "--draws", "4"]) == 0
    result = json.loads(capsys.readouterr().out)
    print(result)
    assert result["equal"]
    assert result["num_ops"] > 100_000
    assert result["ratio_sweep_over_simpy"] >= 500
