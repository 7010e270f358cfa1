"""The files for schedulers do what they say, as far as that shows without a cluster."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

CLUSTER = ROOT / "docs" / "cluster"

COMMANDS = {
    "scontrol": 'echo "scontrol $*" >> "$CALLS"\n[ "$1" = show ] && printf "first\\nsecond\\n"',
    "srun": (
        'echo "srun $*" >> "$CALLS"\n'
        'trap \'echo "told to stop" >> "$CALLS"; exit 1\' USR1\n'
        'touch "$CALLS.begun"\n'
        'for _ in $(seq "$LASTS"); do sleep 0.1; done\n'
        "exit 3"
    ),
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment like that of a job, in which commands of Slurm note how they were called."""
    for name, text in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_NODELIST": "first,second",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_ID": "42",
        "RUN": str(tmp_path / "run"),
        "RECIPE": "recipes/sketch_to_image.py",
    }


def submit(slurm: dict[str, str], lasts: int) -> subprocess.Popen[bytes]:
    script = ["bash", str(CLUSTER / "slurm.sbatch"), "--data", "my faces"]
    return subprocess.Popen(script, env={**slurm, "LASTS": str(lasts)})


def calls(slurm: dict[str, str]) -> list[str]:
    return Path(slurm["CALLS"]).read_text().splitlines()


def test_slurm_starts_resumes_and_passes_a_failure_on(slurm: dict[str, str]) -> None:
    with submit(slurm, lasts=1) as job:
        assert job.wait(30) == 3
    (line,) = [line for line in calls(slurm) if line.startswith("srun")]
    assert "--rdzv_endpoint first:29500" in line
    assert f"recipes/sketch_to_image.py --out {slurm['RUN']} --data my faces" in line
    Path(slurm["RUN"]).mkdir()
    (Path(slurm["RUN"]) / "config.json").touch()
    with submit(slurm, lasts=1) as job:
        job.wait(30)
    assert f"--out {slurm['RUN']} --resume --data my faces" in calls(slurm)[-1]
    assert not any("requeue" in line for line in calls(slurm))


def test_slurm_stops_and_comes_back_at_the_end_of_its_time(slurm: dict[str, str]) -> None:
    with submit(slurm, lasts=600) as job:
        deadline = time.monotonic() + 30
        while not Path(f"{slurm['CALLS']}.begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == 0
    assert calls(slurm)[-2:] == ["told to stop", "scontrol requeue 42"]


def test_kubernetes_starts_what_slurm_does() -> None:
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    (command,) = container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    done = subprocess.run(
        ["bash", "-c", command.replace("exec torchrun", "echo")],
        env={"RUN": "runs/none"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[:4] == ["--nnodes", "2", "--nproc_per_node", "8"]
    assert done.stdout.rstrip().endswith("--data /mnt/gangen/data --out runs/none")
