"""Runs games x seeds of one setting: here, some at a time, or one task of a job array (job.slurm).

    bash benchmark/defaults.sh                                 # all of it, one run after the other
    bash benchmark/defaults.sh --games Pong --seeds 1 --dry-run
    bash benchmark/defaults.sh --workers 4                     # each with a quarter of the cores
    bash benchmark/defaults.sh --games BreakoutNoFrameskip-v4 ALE/Pong-v5 --only 2

What stands after `--` in a setting's shell script are the flags of its runs; EXTRA_FLAGS of the
environment are added to them, so EXTRA_FLAGS="--total-timesteps 2560 --learning-starts 800
--buffer-size 2560" with other --runs makes a short rehearsal.

A run lies in {runs}/{script}-{setting}/{env_id}/seed{N}. A finished one is left as it is, an
interrupted one is resumed, one that had come to no checkpoint begins again, one that was begun with
another script or other flags, that another process works on, or whose place in --results another
run has taken, is refused. Its last weights then play the setting's evaluation (float32, CPU, one
thread, so that anyone gets the same games), which goes to evaluation.txt. SIGINT, SIGTERM, SIGUSR1
and, but for nohup, SIGHUP end all runs with a checkpoint. The exit code is 1 if a run failed, 128 +
the signal if runs were interrupted, else 0. On a CPU a run of the defaults comes to 7.6 GB of
memory; one that begins does not know what the others will still take.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
import tyro

ROOT = Path(__file__).parent.parent
SMALL = ("episodes.csv", "eval.csv", "args.json", "machine.json", "evaluation.txt")


@dataclass
class Args:
    setting: str  # its name
    script: str = "dqn_atari.py"  # the script that is run
    games: tuple[str, ...] = ("Pong", "Breakout")  # Pong is PongNoFrameskip-v4; ids also
    seeds: tuple[int, ...] = (1, 2, 3)  # of each game
    workers: int = 1  # runs at a time, each with its share of the cores as threads
    only: int | None = None  # this run of the list alone, from 1: the task of a job array
    dry_run: bool = False  # print the list and end
    runs: Path = Path("runs/benchmark")  # where the runs lie
    results: Path | None = None  # copy the small files of finished runs to here


@dataclass
class Run:
    directory: Path
    flags: list[str]  # all but its directory


def newest(paths: list[Path]) -> int:
    """When the last of those that exist was written, in nanoseconds; 0 if none does."""
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


REFUSED = ("--env-id", "--seed", "--run-dir", "--resume", "--evaluate")  # a run has its own


class Runner:
    """Its runs and what became of them: skipped, finished, interrupted or failed."""

    def __init__(self, args: Args, flags: list[str]):
        self.args, self.processes, self.signals = args, set(), set()
        try:
            extra = shlex.split(os.environ.get("EXTRA_FLAGS", ""))
        except ValueError as error:
            raise SystemExit(f"EXTRA_FLAGS: {error}: type its quotes in pairs") from error
        given = {word.partition("=")[0].replace("_", "-") for word in extra}
        if wrong := given & {*REFUSED}:
            names = ", ".join(sorted(wrong))
            raise SystemExit(f"EXTRA_FLAGS cannot have {names}: type --games, --seeds or --runs")
        if args.workers < 1 or not args.games or not args.seeds:
            raise SystemExit("nothing to run: type --workers 1 or more, a game and a seed at least")
        self.runs, name = [], Path(args.script).stem
        name += f"-{args.setting}" if args.setting != "defaults" else ""
        ids = [game if "-v" in game else f"{game}NoFrameskip-v4" for game in args.games]
        for env_id in dict.fromkeys(ids):
            for seed in dict.fromkeys(args.seeds):
                directory = args.runs / name / env_id.replace("/", "-") / f"seed{seed}"
                own = ["--env-id", env_id, "--seed", str(seed)]
                self.runs.append(Run(directory, [*own, *flags, *extra]))
        if args.only is not None:
            if not 1 <= args.only <= len(self.runs):
                raise SystemExit(f"--only {args.only} is none of the runs 1 to {len(self.runs)}")
            self.runs = [self.runs[args.only - 1]]

    def stop(self, number: int, frame) -> None:
        """Passes the signal on; runs that have not begun do not begin."""
        self.signals.add(number)
        for process in list(self.processes):
            process.send_signal(number)

    def call(self, flags: list[str], threads: int | str, output: Path, errors: Path) -> int:
        """Exit code of the script with these flags and number of threads, of torch or of XLA."""
        with open(output, "a") as out, open(errors, "a") as err:
            process = subprocess.Popen(
                [sys.executable, self.args.script, *flags],
                stdout=out,
                stderr=err,
                env=os.environ | {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads)},
                cwd=ROOT,
            )
            self.processes.add(process)
            for number in list(self.signals):  # came while the process was made
                process.send_signal(number)
            code = process.wait()
            self.processes.discard(process)
        return code

    def outcome(self, run: Run) -> str:
        """Does what is left to do of a run."""
        directory, log = ROOT / run.directory, (ROOT / run.directory).with_suffix(".log")
        evaluation, part = directory / "evaluation.txt", directory / "evaluation.part"
        models, checkpoints = (
            [directory / f"{name}.{kind}" for kind in ("pt", "npz")]
            for name in ("model", "checkpoint")
        )
        words, begun = shlex.join([self.args.script, *run.flags]), directory.with_suffix(".flags")
        if not (directory.exists() and begun.exists()):
            begun.write_text(words)
        elif (was := begun.read_text()) != words:
            return f"failed: it was begun as {was}: type another --runs"
        if self.args.results:  # may hold this run, whole or as far as it was
            target = self.args.results / run.directory.relative_to(self.args.runs)
            old, new = (folder / "episodes.csv" for folder in (target, directory))
            games = new.read_bytes() if new.exists() else b""
            if old.exists() and not games.startswith(old.read_bytes()):
                return f"failed: {target} is of another run: type another --results"
        # A finished run that was resumed to more steps has a checkpoint newer than its old model.
        trained = any(map(Path.exists, models)) and newest(models) >= newest(checkpoints)
        if evaluation.exists() and trained and newest([evaluation]) >= newest(models):
            return "skipped"
        if self.signals:
            return "interrupted"
        code = 0
        if not trained:
            flags = [*run.flags, "--run-dir", str(run.directory)]
            if any(map(Path.exists, checkpoints)):
                flags = ["--resume", str(run.directory)]
            elif directory.exists():
                with filelock.FileLock(directory / ".lock", timeout=0):
                    shutil.rmtree(directory)
            cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
            threads = os.environ.get("OMP_NUM_THREADS", max(1, cores // self.args.workers))
            code = self.call(flags, threads, log, log)
        if code == 0:
            (model,) = (model for model in models if model.exists())
            flags = [*run.flags, "--evaluate", str(model), "--device", "cpu"]
            flags += ["--precision", "float32"]  # of a flag that is given twice the last counts
            part.unlink(missing_ok=True)
            code = self.call(flags, 1, part, log)
        if code == 0:
            part.rename(evaluation)
            return "finished"
        if any(code in (-number, 128 + number) for number in self.signals):
            return "interrupted"
        lines = log.read_text().splitlines()[-5:]
        return "\n    ".join([f"failed with exit code {code}, the end of {log}:", *lines])

    def attempt(self, run: Run) -> str:
        """Its outcome, told at once; an error of one run is not the end of the others."""
        directory = ROOT / run.directory
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(directory.with_suffix(".lock"), timeout=0):
                outcome = self.outcome(run)
                if self.args.results and outcome in ("skipped", "finished"):
                    self.publish(run)
        except filelock.Timeout:
            outcome = "failed: another process works on it"
        except Exception as error:
            outcome = f"failed: {error!r}"
        sys.stdout.write(f"{run.directory}: {outcome}\n")
        sys.stdout.flush()
        return outcome

    def publish(self, run: Run) -> None:
        """The small files of a finished run, as they are."""
        target = self.args.results / run.directory.relative_to(self.args.runs)
        target.mkdir(parents=True, exist_ok=True)
        for file in SMALL:
            if (ROOT / run.directory / file).exists():
                shutil.copy(ROOT / run.directory / file, target)

    def __call__(self) -> int:
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup has it ignored
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self.stop)
        with ThreadPoolExecutor(self.args.workers) as pool:
            outcomes = list(pool.map(self.attempt, self.runs))
        if any(outcome.startswith("failed") for outcome in outcomes):
            return 1
        return 128 + min(self.signals) if "interrupted" in outcomes else 0


if __name__ == "__main__":
    here = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = tyro.cli(Args, args=sys.argv[1:here], description=__doc__)
    runner = Runner(args, sys.argv[here + 1 :])
    if args.dry_run:
        for run in runner.runs:
            print(shlex.join(["python", args.script, *run.flags, "--run-dir", str(run.directory)]))
    else:
        sys.exit(runner())
