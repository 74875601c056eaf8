"""A picture of TensorBoard with the runs of a folder, as a browser shows it.

    python benchmark/screenshot.py benchmark/results --output benchmark/tensorboard.png
    python benchmark/screenshot.py runs --tab hparams --output hparams.png

Needs Chromium (Debian: chromium). Every folder with an event file below is a run. The tab "time
series" draws on a graphics card, which a browser without window may lack, so it is not offered.
"""

import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from tensorboard.program import TensorBoard


@dataclass
class Args:
    logdir: tyro.conf.Positional[Path]  # what tensorboard --logdir gets
    output: Path = Path("tensorboard.png")  # picture to write
    tab: Literal["scalars", "hparams"] = "scalars"  # curves, or the table of flags
    tags: str = "episodic_return|SPS|losses|eval/mean|average_max_q"  # curves to show, a pattern
    smoothing: float = 0.6  # of the curves, 0 to 1
    width: int = 1500  # pixels
    height: int = 780  # pixels


def main(args: Args) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        raise SystemExit("no Chromium: install it, on Debian by apt-get install chromium")
    tensorboard = TensorBoard()
    flags = ["--logdir", str(args.logdir), "--port", "0", "--load_fast=false"]
    tensorboard.configure(argv=["tensorboard", *flags])
    url, runs, before = tensorboard.launch(), "[]", None
    end = time.monotonic() + 120
    while runs == "[]" or runs != before:  # until it has read the files
        if time.monotonic() > end:
            raise SystemExit(f"{args.logdir} has no event files: type another folder")
        time.sleep(3)
        runs, before = urllib.request.urlopen(f"{url}data/runs").read().decode().strip(), runs
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={args.width},{args.height}", "--virtual-time-budget=30000"]
    command += [f"--screenshot={args.output.absolute()}"]
    state = urllib.parse.urlencode({"_smoothingWeight": args.smoothing, "tagFilter": args.tags})
    command += [f"{url}#{args.tab}&{state}"]
    args.output.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode or not args.output.exists():
        raise SystemExit(done.stderr[-2_000:])
    print(f"{args.output}: {runs}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
