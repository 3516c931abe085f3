"""Read and update ``qc.tsv``: one row per scan with quality numbers, a decision and a comment.

The reviewer's entries are never lost or changed. The file is read as plain text, without quoting or type guessing, and
written back cell by cell (an apostrophe goes before text that a spreadsheet would run as a formula).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainage_bids.bids.files import MISSING, as_written, cell_text, harmless, write_text
from brainage_bids.bids.ids import id_key
from brainage_bids.bids.parse import natural_key
from brainage_bids.bids.runs import locked
from brainage_bids.bids.sessions import session_key, unpadded
from brainage_bids.bids.text import Unreadable, not_fetched, read_text, split_lines
from brainage_bids.errors import BadDataError, shorten
from brainage_bids.schema import Scan

Key = tuple[str, str | None, str | None]  # participant_id, session_id, run

PASS, FAIL = "pass", "fail"
EXCLUDED = "excluded by qc_decision"
KEYS = ("participant_id", "session_id", "run")
DECISION, COMMENT, VOLUME = "qc_decision", "qc_comment", "qc_volume"
_WORDS = {
    **dict.fromkeys(("pass", "passed", "accept", "accepted", "include", "included"), PASS),
    **dict.fromkeys(("fail", "failed", "reject", "rejected", "exclude", "excluded"), FAIL),
    **dict.fromkeys(("", "n/a"), None),
}
_LABELS = (r"sub-[0-9A-Za-z+]+", r"ses-[0-9A-Za-z+]+", r"[0-9A-Za-z+_-]+")


@dataclass(frozen=True)
class Decision:
    """The reviewer's decision on a scan: ``pass``, ``fail`` or None; ``volume`` is the volume they looked at."""

    verdict: str | None = None
    comment: str = ""
    volume: str | None = None


@dataclass(frozen=True)
class QcTable:
    """The content of ``qc.tsv``: column names, and for each scan the cells as written."""

    columns: tuple[str, ...] = ()
    rows: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)

    def decision(self, key: Key) -> Decision:
        """Return the decision on a scan; an empty one when it has no row."""
        row = self.rows.get(key, {})
        comment = _bare(row.get(COMMENT, ""))
        return Decision(_verdict(row), "" if comment == MISSING else comment, _known(row.get(VOLUME, "")))


def scan_key(scan: Scan) -> Key:
    """Return the key of the row of a scan."""
    return scan.participant_id, scan.session_id, scan.run


def effective_pass(qc_pass: bool | None, verdict: str | None) -> bool | None:
    """Return whether a scan may be used (None: unknown); a reviewer overrules the quality gates. The only such rule.

    Parameters
    ----------
    qc_pass
        Result of the quality gates; None without a volume made here (predictions made elsewhere).
    verdict
        ``pass``, ``fail`` or None (not decided).
    """
    if verdict == FAIL:
        return False
    if verdict == PASS and qc_pass is not None:
        return True
    return qc_pass


def is_outdated(decision: Decision, volume: str | None) -> bool:
    """Return whether a decision was made on another volume than the present one."""
    return decision.verdict is not None and None not in (decision.volume, volume) and decision.volume != volume


def check_decisions(path: Path, scans: Iterable[Scan], bids_dir: Path) -> None:
    """Raise when decisions cannot be understood, or a row with a decision matches no scan but nearly does.

    Parameters
    ----------
    path
        The table.
    scans
        The selected scans.
    bids_dir
        BIDS_DIR, with the folders of all participants.

    Raises
    ------
    BadDataError
        Names the row and the scan.
    """
    table, keys = read_qc(path), [scan_key(scan) for scan in scans]
    near = {_loosely(key): key for key in keys if table.decision(key).verdict is None}
    there = set(keys)
    for key in table.rows:
        scan = near.get(_loosely(key))
        if scan is None or key in there or table.decision(key).verdict is None:
            continue
        if key[0] == scan[0] or not (bids_dir / key[0]).is_dir():
            raise BadDataError(
                f"{path}: there is a decision for {' '.join(filter(None, key))!r}, which is no scan; the scan is "
                f"{' '.join(filter(None, scan))!r}: use its labels"
            )


def _loosely(key: Key) -> tuple[str, str, str]:
    return id_key(key[0]), session_key(key[1]), unpadded((key[2] or "").casefold())


def read_qc(path: Path) -> QcTable:
    """Read ``qc.tsv``, also after Excel or LibreOffice saved it; an empty table when there is no file.

    Raises
    ------
    BadDataError
        When the file is not a table of scans, or a decision is neither pass nor fail; names the rows.
    """
    if not path.is_file() and not not_fetched(path):
        return QcTable()
    lines = [
        (n, [as_written(cell) for cell in line.split("\t")])
        for n, line in enumerate(_lines(path), start=1)
        if line.strip()
    ]
    if not lines:
        return QcTable()
    columns = [_bare(name) for name in lines[0][1]]
    while columns and not columns[-1]:
        columns.pop()
    if columns[:1] == [] or KEYS[0] not in columns or len(set(columns)) < len(columns):
        raise BadDataError(
            f"{path}: line 1 must name each column once, participant_id among them, separated by tabs; "
            "repair it or remove the file (its decisions are lost then)"
        )
    rows: dict[Key, dict[str, str]] = {}
    faults = []
    for number, cells in lines[1:]:
        try:
            key, row = _row(columns, cells)
            if key in rows:
                raise ValueError(f"repeats the row of {' '.join(filter(None, key))}; remove one of the two")
            rows[key] = row
        except ValueError as error:
            faults.append(f"line {number} {error}")
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise BadDataError(f"{path}: {'; '.join(faults[:5])}{more}")
    return QcTable(tuple(columns), rows)


def update_qc(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> QcTable:
    """Write new numbers into ``qc.tsv``. The reviewer's entries, added columns and the rows of other scans stay.

    A decision keeps the ``qc_volume`` it was made on; a row without a decision gets the new one.

    Parameters
    ----------
    path
        The table.
    columns
        Names of the columns; those already in the file come first, in their order.
    rows
        One per scan: the three key columns, ``qc_volume`` and any of ``columns`` but decision and comment.

    Returns
    -------
    QcTable
        The table after the update.

    Raises
    ------
    BadDataError
        When the file cannot be understood (:func:`read_qc`); it then stays unchanged.
    """
    with locked(path.parent):
        before = read_qc(path)
        names = tuple(dict.fromkeys([*before.columns, *columns]))
        merged = {key: dict(row) for key, row in before.rows.items()}
        for new in rows:
            key = (str(new[KEYS[0]]), new[KEYS[1]], new[KEYS[2]])
            fresh = {
                name: as_written(cell_text(value)) for name, value in new.items() if name not in (DECISION, COMMENT)
            }
            decision = before.decision(key)
            if decision.verdict is not None and decision.volume is not None:
                fresh[VOLUME] = decision.volume
            merged[key] = {**merged.get(key, {}), **fresh}
        order = sorted(merged, key=lambda key: tuple(natural_key(part) for part in key))
        table = QcTable(names, {key: {name: merged[key].get(name, MISSING) for name in names} for key in order})
        lines = [names, *(row.values() for row in table.rows.values())]
        content = "".join("\t".join(map(harmless, cells)) + "\n" for cells in lines)
        if not path.is_file() or path.read_bytes() != content.encode():
            write_text(path, content)
    return table


def _lines(path: Path) -> list[str]:
    if path.is_file() and (content := path.read_bytes())[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return split_lines(content.decode("utf-16"))  # what Excel calls "Unicode text"
        except UnicodeDecodeError as error:
            raise Unreadable(path, f"is no UTF-16 text ({error.reason}); save it again as UTF-8") from error
    return split_lines(read_text(path))


def _row(columns: Sequence[str], cells: Sequence[str]) -> tuple[Key, dict[str, str]]:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise ValueError(f"has {len(cells)} cells under {len(columns)} columns; look for a tab inside a cell")
    row = dict(zip(columns, [*cells, *[""] * len(columns)], strict=False))
    parts = [_known(row.get(name, "")) for name in KEYS]
    for name, value, pattern in zip(KEYS, parts, _LABELS, strict=True):
        if (value is None and name == KEYS[0]) or (value is not None and not re.fullmatch(pattern, value)):
            raise ValueError(
                f"has the {name} {shorten(row.get(name, ''))!r}, which is no label; look for a line break inside a cell"
            )
    try:
        _verdict(row)
    except KeyError:
        who = " ".join(filter(None, parts))
        raise ValueError(
            f"has the {DECISION} {shorten(row[DECISION])!r} for {who}; write pass or fail, or leave it empty"
        ) from None
    return (parts[0], parts[1], parts[2]), row


def _verdict(row: Mapping[str, str]) -> str | None:
    return _WORDS[_bare(row.get(DECISION, "")).casefold()]


def _known(cell: str) -> str | None:
    bare = _bare(cell)
    return None if bare in ("", MISSING) else bare


def _bare(cell: str) -> str:
    """Return a cell without outer blanks and without the quotes that spreadsheets put around text."""
    text = cell.replace("\xa0", " ").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = as_written(text[1:-1].replace('""', '"').strip())
    return text
