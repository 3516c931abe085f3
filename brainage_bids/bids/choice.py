"""Choose the scan that represents a person when a session has several: one rule for the whole program.

Scans without contrast agent come first, then scans of the whole brain, then those with the fewest quality warnings,
then the first by name (acquisition in natural order, then run). Scans that failed quality control are removed before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Sequence

from brainage_bids.bids.faults import some
from brainage_bids.bids.parse import natural_key
from brainage_bids.schema import Scan

RULE = "plain before contrast agent, whole brain before part of it, fewest quality warnings, then name"
_NO_AGENT = re.compile(r"(?:none|no|non|without|native|plain|pre\w*)", re.IGNORECASE)
# names of contrast agents that people write into acq- or rec- instead of ce-
_AGENT = re.compile(r"gado|gad$|^gad|postgd|postc(?:on|e)|postgad|^(?:gd|post|ce|gbca|contrast)$", re.IGNORECASE)
_PART = re.compile(
    r"locali[sz]|^loc\d*$|scout|survey|hippo|slab|partial(?!f)|inplane|amygd|brain?stem|pituit|sella|orbit|spine|cervic"
    r"|smallfov|reducedfov|rfov",
    re.IGNORECASE,
)


def entities_of(run: str | None) -> dict[str, str]:
    """Return the entities that distinguish scans of one session: ``acq-mprage_run-1`` as a dict."""
    return dict(part.split("-", 1) for part in (run or "").split("_") if "-" in part)


def has_agent(run: str | None) -> bool:
    """Return whether the name of a scan says that it was made with a contrast agent."""
    entities = entities_of(run)
    named = "ce" in entities and not _NO_AGENT.fullmatch(entities["ce"])
    return named or any(_AGENT.search(entities.get(key, "")) is not None for key in ("acq", "rec"))


def is_part(run: str | None) -> bool:
    """Return whether the name of a scan says that it shows only a part of the brain."""
    entities = entities_of(run)
    return "chunk" in entities or any(_PART.search(entities.get(key, "")) is not None for key in ("acq", "rec"))


def acquisition(run: str | None) -> str:
    """Return the entities without ``run``. Scans with the same ones are repeats of one acquisition."""
    return "_".join(f"{key}-{value}" for key, value in entities_of(run).items() if key != "run")


def preference(run: str | None, n_warnings: float = 0.0) -> tuple:
    """Return a sort key for the scans of one session; the first scan represents the person.

    Parameters
    ----------
    run
        Entities joined (`Scan.run`), None without any.
    n_warnings
        Number of quality warnings; NaN when unknown.
    """
    warned = 0.0 if math.isnan(n_warnings) else float(n_warnings)
    number = natural_key(entities_of(run).get("run"))
    return has_agent(run), is_part(run), warned, natural_key(acquisition(run)), number, natural_key(run)


def second_choice(sessions: Sequence[Hashable], runs: Sequence[str | None]) -> list[bool]:
    """Return for each scan whether another scan of its session is better in contrast agent or brain coverage."""
    kinds = [preference(run)[:2] for run in runs]
    best: dict[Hashable, tuple] = {}
    for session, kind in zip(sessions, kinds, strict=True):
        best[session] = min(kind, best.get(session, kind))
    return [kind > best[session] for session, kind in zip(sessions, kinds, strict=True)]


def choice_of(scans: Iterable[Scan]) -> str | None:
    """Return which scans represent people, judged by names only; None when no session has several scans."""
    sessions: dict[tuple, list[Scan]] = {}
    for scan in scans:
        sessions.setdefault((scan.participant_id, scan.session_id), []).append(scan)
    ordered = (sorted(group, key=lambda scan: preference(scan.run)) for group in sessions.values())
    return choice_note([scan.prefix for scan in group] for group in ordered)


def choice_note(sessions: Iterable[Sequence[str]]) -> str | None:
    """Return one sentence on which scans represent people; None when no session has several scans.

    Parameters
    ----------
    sessions
        For each session the file name stems of its scans; the first represents the person.
    """
    several = [f"{stems[0]} before {some(stems[1:], 3)}" for stems in sessions if len(stems) > 1]
    if not several:
        return None
    count = "1 session has" if len(several) == 1 else f"{len(several)} sessions have"
    more = f"; and {len(several) - 3} more" if len(several) > 3 else ""
    summary = f"{count} several T1w images; in the statistics one stands for the person ({RULE})"
    return f"{summary}: {'; '.join(several[:3])}{more}."
