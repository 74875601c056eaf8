"""What the READMEs say of the files is so: links, line references, commands, flags."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "benchmark" / "README.md"]


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_links_and_named_files_exist(readme):
    """Links, and paths of the repository in backticks or commands."""
    text = readme.read_text()
    named = set(re.findall(r"\]\(([^)#]+)\)", text))
    named |= set(re.findall(r"\b(?:benchmark|tests)/[\w/.-]+\.(?:py|sh|slurm|pt|md|png|gif)", text))
    folders = readme.parent, ROOT
    missing = [name for name in named if not any((f / name).exists() for f in folders)]
    assert named and not missing
    results = set(re.findall(r"`(results/[\w/.-]+)`", text))
    assert all((ROOT / "benchmark" / name).exists() for name in results)


def test_each_line_of_algorithm_1_is_where_the_readme_says():
    """The code named stands in the lines named, once."""
    lines = (ROOT / "dqn_atari.py").read_text().splitlines()
    rows = re.findall(r"^\| .+? \| ([\d-]+) \| `(.+)` \|$", READMES[0].read_text(), re.M)
    assert len(rows) == 13
    for where, code in rows:
        first, _, last = where.partition("-")
        block = "\n".join(lines[int(first) - 1 : int(last or first)])
        assert block.count(code) == 1, (where, code, block)


def test_every_flag_of_the_readme_exists():
    """In one of the scripts or of the commands of benchmark/."""
    flags = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", READMES[0].read_text()))
    known = {"output", "steps", "skip"}  # of watch.py
    for script in ("dqn_atari", "dqn_atari_2013"):
        tree = ast.parse((ROOT / f"{script}.py").read_text())
        (args,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Args")
        known |= {n.target.id.replace("_", "-") for n in args.body if isinstance(n, ast.AnnAssign)}
    assert flags <= known | {"help"}


def test_every_setting_is_in_the_table_of_settings():
    scripts = {path.name for path in (ROOT / "benchmark").glob("*.sh")}
    named = set(re.findall(r"^\| `bash benchmark/(\w+\.sh)`", READMES[1].read_text(), re.M))
    assert named == scripts
