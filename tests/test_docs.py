"""The documentation says what the code knows."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from brainage_bids import cli, tools
from brainage_bids.bids.faults import CODES
from brainage_bids.report.readable_names import FLAGS

ROOT = Path(__file__).parents[1]
# options of docker, apptainer, torchrun, sbatch; engines.md and measured.md give command lines of other programs
OTHERS = set(
    "--gpus --nv --rm --cleanenv --rdzv-backend --rdzv-endpoint --rdzv-id --standalone --nnodes --nproc-per-node "
    "--max-restarts --array --wrap --partition --time --mem-per-cpu".split()
)
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_every_fault_is_in_the_table():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", (ROOT / "docs" / "faults.md").read_text(), re.M)
    assert {code: (severity, meaning) for code, severity, meaning in rows} == CODES


def test_every_flag_is_in_the_table():
    part = (ROOT / "docs" / "outputs.md").read_text().split("| flag | meaning |")[1].split("\n\n")[0]
    assert {name for row in re.findall(r"^\| (`[^|]*) \|", part, re.M) for name in re.findall(r"`(\w+)`", row)} == set(
        FLAGS
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("engines.md", "measured.md")], ids=lambda page: page.name
)
def test_every_option_that_is_named_exists(page):
    known = {"--help"} | OTHERS
    for application in (cli.app, tools.tools_app):
        command = typer.main.get_command(application)
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {name for option in one.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text())) <= known


def test_reference_is_what_the_code_gives():
    path = ROOT / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    make_reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_reference)
    told = "docs/reference.md is not what the code gives; run python docs/make_reference.py"
    assert make_reference.PAGE.read_text(encoding="utf-8") == make_reference.page(), told


def test_reference_has_every_option():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for application in (cli.app, tools.tools_app):
        command = typer.main.get_command(application)
        for one in (command, *getattr(command, "commands", {}).values()):
            names = {name for option in one.params if option.param_type_name == "option" for name in option.opts}
            for name in names:
                assert "_" in name or re.search(rf"`{name}[` ]", text), name  # a _ is said to be as good as a -


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_hashes_of_labels_are_nowhere_called_more_than_pseudonymous():
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "brainage_bids").rglob("*.py")]
    texts += (ROOT / "brainage_bids").rglob("*.md")
    places = [(path, found) for path in texts for found in re.finditer(r"salted hash", path.read_text())]
    assert len(places) > 4
    for path, found in places:
        assert re.search(r"can be\s+guessed", path.read_text()[found.start() :][:250]), path
