"""Mutation testing: small changes of the code that computes and reads, drawn by chance, that the tests must notice.

Run ``python benchmarks/mutants.py [--draw 400] [--seed 1] [--parts stats losses ...]`` (`make mutants`; with mutmut).
Each part is copied into a temporary folder; mutmut makes every mutant of its functions (an operator, a number, a word,
an argument, ... of one line is changed) and runs, for each one drawn, the files of tests that call that function. A
mutant that makes them run out of time counts as killed. Prints a table, and the changes that no test noticed.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from statsmodels.stats.proportion import proportion_confint

ROOT = Path(__file__).parents[1]
# Tests of reading that concern no age, unit, session, heading or cell, or take long.
ASIDE = ("derivative", "files", "images", "predictions", "query", "reuse", "runs", "shareable")
READING = [
    *(
        f"tests/bids/{path.name}"
        for path in sorted((ROOT / "tests" / "bids").glob("test_bids_*.py"))
        if path.stem.removeprefix("test_bids_") not in ASIDE
    ),
    "tests/corpus",
]
CASES = ("ages", "columns")  # topics of the corpus that are tried; the others take long
# part -> files with the mutants, tests that must notice them
PARTS = {
    "stats": (["brainage_bids/stats/*.py"], ["tests/stats"]),
    "losses": (["brainage_bids/model/losses.py"], ["tests/model/test_losses.py"]),
    "ages": (
        [
            f"brainage_bids/bids/{name}.py"
            for name in (
                *("agebook", "agecolumns", "agefaults", "ages", "agetimes", "asked"),
                *("groupcolumns", "headings", "sessions", "units"),
            )
        ],
        READING,
    ),
    "parse": (["brainage_bids/bids/parse.py"], READING),
}
KILLED, TIMEOUT = {1, 3}, {36, -24, 24, 152, 255}  # exit codes that mutmut keeps
CALLED = "mutants/mutmut-stats.json"  # which test calls which function; written where all tests pass
CONFIG = """[mutmut]
source_paths=brainage_bids
also_copy=
    tests
    pyproject.toml
only_mutate=
    {files}
pytest_add_cli_args_test_selection=
    {tests}
pytest_add_cli_args=
    -p
    no:cacheprovider
    -o
    filterwarnings=
    -k
    not test_corpus or {cases}
    --hypothesis-profile=ci
"""


def mutmut(folder, *args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")


def printed(done):
    """Return the end of what mutmut printed, without its spinner."""
    lines = (done.stdout + done.stderr).replace("\r", "\n").splitlines()
    kept = [line for line in lines if line.strip() and not re.match(r"[\u2800-\u28ff] ", line)]
    return "\n".join(kept[-60:])


def exit_codes(folder):
    """Return mutant -> exit code of its tests (None: not tried yet)."""
    found = {}
    for path in sorted((folder / "mutants").rglob("*.py.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def widen(folder):
    """Let all tests of a file try a mutant that one of them calls: the first that asks makes a fixture for all."""
    path = folder / CALLED
    kept = json.loads(path.read_text())
    of_file = {}
    for test in kept["duration_by_test"]:
        of_file.setdefault(test.split("::")[0], []).append(test)
    for function, tests in kept["tests_by_mangled_function_name"].items():
        files = sorted({test.split("::")[0] for test in tests})
        kept["tests_by_mangled_function_name"][function] = [test for file in files for test in of_file[file]]
    path.write_text(json.dumps(kept))


def tried(folder, part, draw, seed):
    """Return how many mutants a part has, and mutant -> exit code of those drawn."""
    files, tests = PARTS[part]
    for name in ("brainage_bids", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    cases = " or ".join(f"test_case[{name}" for name in CASES)
    config = CONFIG.format(files="\n    ".join(files), tests="\n    ".join(tests), cases=cases)
    (folder / "setup.cfg").write_text(config)
    first = mutmut(folder, "run", "--max-children", "1", "makes them all and tries none")
    names = sorted(exit_codes(folder))
    if not names:
        raise SystemExit(f"no mutant of {part} was made:\n{printed(first)}")
    if not (folder / CALLED).exists():
        raise SystemExit(f"the tests of {part} fail in a copy of the package without a mutant:\n{printed(first)}")
    widen(folder)
    drawn = sorted(random.Random(seed).sample(names, min(draw, len(names))))
    done = mutmut(folder, "run", "--max-children", "1", *drawn)
    codes = exit_codes(folder)
    if all(codes[name] is None for name in drawn):
        raise SystemExit(f"no mutant of {part} was tried:\n{printed(done)}")
    return len(names), {name: codes[name] for name in drawn}


def row(name, codes):
    caught = sum(code in KILLED | TIMEOUT for code in codes)
    low, high = proportion_confint(caught, len(codes), method="wilson")
    late, untested = sum(code in TIMEOUT for code in codes), sum(code in (33, 5) for code in codes)
    return (
        f"| {name} | {len(codes)} | {caught} | {late} | {len(codes) - caught} | {untested} | "
        f"{caught / len(codes):.0%} ({low:.0%} to {high:.0%}) |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", type=int, default=400, help="mutants of a part that are tried, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    asked = parser.parse_args()
    print("| part | drawn | killed | of them by time | survived | of them without a test | killed (95 % interval) |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for part in asked.parts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            total, codes = tried(folder, part, asked.draw, asked.seed)
            print(row(f"{part}, {total} in all", codes.values()))
            modules = Counter(mutant.split(".x")[0] for mutant in codes)
            for module in sorted(modules) if len(modules) > 1 else []:
                print(row(module, [code for mutant, code in codes.items() if mutant.split(".x")[0] == module]))
            for mutant, code in codes.items():
                if code not in KILLED | TIMEOUT:
                    shown = mutmut(folder, "show", mutant).stdout.splitlines()
                    changed = [line for line in shown if line[:1] in "-+" and line[:3] not in ("---", "+++")]
                    print("\n".join([f"  {mutant} ({code})", *(f"    {line}" for line in changed)]), flush=True)


if __name__ == "__main__":
    main()
