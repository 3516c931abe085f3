"""Bad inputs of every topic, each with its promised outcome; `corpuscase` says how to add one."""

import importlib
from pathlib import Path

import pytest
from corpuscase import Case, Ended, build, faults, run

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CORPUS = [(module, name, case) for module in MODULES for name, case in importlib.import_module(module).CASES.items()]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{module.removeprefix('cases_')}:{name}") for module, name, case in CORPUS]
)
def test_case(case, tmp_path, capfd):
    root = tmp_path / "ds"
    build(case, root)
    ended = run(case, root, capfd)
    bad = faults(case, ended, root)
    assert not bad, f"{case.what}\n" + "\n".join(bad) + f"\n--- printed\n{ended.out}{ended.err}"


def test_every_case_has_a_name_and_a_promise_of_its_own():
    names = [name for _, name, _ in CORPUS]
    assert len(names) == len(set(names))
    assert len(names) >= 150
    for _, name, case in CORPUS:
        promises = (case.ages, case.says, case.silent, case.planned is not None, case.max_lines, case.rc)
        assert case.what, name
        assert any(promises), f"{name} promises nothing beyond exit 0"


# --- the corpus itself can fail -------------------------------------------------------------------------------------

PLAN = "scan\tage\tage_source\tgroup\nsub-01\t30 [x]\tt\tn/a\nsub-02_ses-1\tn/a\tn/a\tn/a\n"


@pytest.mark.parametrize(
    ("case", "ended", "told"),
    [
        (Case("x", rc=16), Ended(0, "", ""), "exit 0, not 16"),
        (Case("x", rc=70), Ended(70, "", ""), "exit 70"),
        (Case("x"), Ended(0, "", "Traceback (most recent call last)"), "traceback"),
        (Case("x"), Ended(0, "", "y" * 2000), "a line of 2000"),
        (Case("x", planned=1), Ended(0, PLAN, ""), "2 scans planned"),
        (Case("x", ages={"sub-01": 31}), Ended(0, PLAN, ""), "sub-01: age 30.0, not 31"),
        (Case("x", ages={"sub-01": None}), Ended(0, PLAN, ""), "sub-01: age 30.0, not None"),
        (Case("x", ages={"sub-02_ses-1": 30}), Ended(0, PLAN, ""), "age None, not 30"),
        (Case("x", ages={"sub-03": None}), Ended(0, PLAN, ""), "sub-03: age not planned"),
        (Case("x", says=("WEEK",)), Ended(0, "", "months"), "does not say /WEEK/"),
        (Case("x", silent=("MONTH",)), Ended(0, "", "months"), "says /MONTH/"),
        (Case("x", max_lines=1), Ended(0, "", "a\nb\n"), "2 lines of stderr"),
        (Case("x"), Ended(0, PLAN, "sub-031 is there"), "sub-03 is lost"),
    ],
)
def test_an_outcome_that_falls_short_is_told(case, ended, told, tmp_path):
    for name in ("sub-01", "sub-02", "sub-03"):
        (tmp_path / name).mkdir()
    assert any(told in fault for fault in faults(case, ended, tmp_path))


def test_an_outcome_as_promised_is_no_fault(tmp_path):
    (tmp_path / "sub-03").mkdir()
    case = Case("x", ages={"sub-01": 30.01, "sub-02_ses-1": None}, says=("sub-03",), silent=("year",), planned=2)
    assert faults(case, Ended(0, PLAN, "WARNING sub-03 has no image"), tmp_path) == []
