"""Reading evaluation data: rows of docs/formats.md (`jsonl`), and LoCoMo's own file.

Both become the same frozen data: users with memories and questions. What a file says wrongly
is said with its place; nothing is guessed. Questions without evidence are left out, as there is
nothing to be found for them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gateway.core.errors import BadRequest
from gateway.core.memory import KINDS, Instant, Kind, Memory, Source, parse_rfc3339

Format = Literal["jsonl", "locomo"]

TURN_GAP_S = 30.0
"""LoCoMo dates sessions, not turns: each turn is taken to be this long after the one before."""
ADVERSARIAL = "5"
"""LoCoMo's category of questions that have no answer."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A question with the ids of the memories that answer it."""

    text: str
    evidence: tuple[str, ...]
    category: str | None = None


@dataclass(frozen=True, slots=True)
class UserData:
    """One user's memories, in the order of the file, and the questions about them.

    `sessions` has those of all the file's memories by id: evidence has one also where what may be
    found is of another kind.
    """

    user: str
    memories: tuple[Memory, ...]
    questions: tuple[Asking, ...]
    sessions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    name: str
    users: tuple[UserData, ...]


def read(path: Path, format: Format, kinds: Sequence[Kind] = KINDS) -> Dataset:
    """A whole data set; of its memories only those of `kinds`.

    Raises BadRequest, naming the place, where the file is not of this format.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}") from exc
    rows = list(_jsonl(text, path)) if format == "jsonl" else list(_locomo(text, path))
    if not rows:
        raise BadRequest(f"{path} holds nobody's memories and questions")
    return Dataset(path.name, tuple(_of_kinds(row, kinds) for row in rows))


def _of_kinds(row: UserData, kinds: Sequence[Kind]) -> UserData:
    kept = tuple(m for m in row.memories if m.kind in kinds)
    sessions = {m.id: m.session for m in row.memories if m.session is not None}
    return UserData(row.user, kept, tuple(q for q in row.questions if q.evidence), sessions)


# --- jsonl -----------------------------------------------------------------------------------


def _jsonl(text: str, path: Path) -> Iterator[UserData]:
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _json(line)
            if not isinstance(row, dict):
                raise TypeError("a JSON object is needed, one user's (docs/formats.md)")
            memories = tuple(_memory(m) for m in row["memories"])
            questions = tuple(_asking(q) for q in row["questions"])
            _all_different(m.id for m in memories)
            yield UserData(str(row["user"]), memories, questions)
        except KeyError as exc:
            raise BadRequest(f"{path}, line {n}: {exc.args[0]!r} is missing") from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise BadRequest(f"{path}, line {n}: {exc}") from exc


def _memory(row: Mapping[str, Any]) -> Memory:
    kind = row.get("kind")
    kind = "turn" if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}; allowed are {', '.join(KINDS)}")
    text, speaker, session = row["text"], row.get("speaker"), row.get("session")
    for name, value in (("text", text), ("speaker", "" if speaker is None else speaker)):
        if not isinstance(value, str):
            raise TypeError(f"{name} of memory {row['id']!r} is no string")
    return _made(
        str(row["id"]),
        kind,
        text,
        _time(row["created_at"]),
        speaker=speaker,
        session=None if session is None else str(session),
        covers=_ids(row.get("covers") or [], f"covers of memory {row['id']!r}"),
    )


def _ids(given: Any, where: str) -> tuple[str, ...]:
    """A list of ids. A lone string would be taken for the ids of its letters."""
    if not isinstance(given, list):
        raise TypeError(f"{where} is no list of ids")
    return tuple(dict.fromkeys(str(id) for id in given))


def _all_different(ids: Iterable[str]) -> None:
    """Of two memories with one id the store would keep the last alone."""
    twice = next((id for id, n in Counter(ids).items() if n > 1), None)
    if twice is not None:
        raise ValueError(f"two memories have the id {twice!r}")


def _time(text: Any) -> Instant:
    try:
        return parse_rfc3339(text)
    except (AttributeError, ValueError, OverflowError):
        raise ValueError(f"created_at {text!r} is no time such as 2026-05-23T09:00:00Z") from None


def _asking(row: Mapping[str, Any]) -> Asking:
    category, text = row.get("category"), row["text"]
    if not isinstance(text, str):
        raise TypeError(f"text of question {text!r} is no string")
    return Asking(
        text,
        _ids(row["evidence"], f"evidence of question {text!r}"),
        None if category is None else str(category),
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ValueError(f"not JSON: {exc}") from None


# --- LoCoMo's own file -------------------------------------------------------------------------

_EVIDENCE = re.compile(r"D:?(\d+):0*(\d+)")
_SESSION = re.compile(r"session_(\d+)")


def _locomo(text: str, path: Path) -> Iterator[UserData]:
    try:
        conversations = _json(text)
        if not isinstance(conversations, list):
            raise TypeError("a list of conversations is needed")
        for conversation in conversations:
            yield _conversation(conversation)
    except KeyError as exc:
        raise BadRequest(f"{path}: {exc.args[0]!r} is missing; is this LoCoMo's file?") from exc
    except (ValueError, TypeError, AttributeError) as exc:
        raise BadRequest(f"{path}: {exc}") from exc


def _conversation(row: Mapping[str, Any]) -> UserData:
    conversation = row["conversation"]
    numbers = sorted(int(m[1]) for name in conversation if (m := _SESSION.fullmatch(name)))
    memories: list[Memory] = []
    for n in numbers:
        at = _spoken_date(conversation[f"session_{n}_date_time"])
        for i, turn in enumerate(conversation[f"session_{n}"]):
            memories.append(_turn(turn, at + i * TURN_GAP_S, f"s{n}"))
        observed = row.get("observation", {}).get(f"session_{n}_observation", {})
        memories.extend(_observations(observed, n, at))
    known = {id for m in memories for id in (m.id, *m.covers)}
    return UserData(
        str(row["sample_id"]), tuple(memories), tuple(_locomo_questions(row["qa"], known))
    )


def _turn(row: Mapping[str, Any], at: Instant, session: str) -> Memory:
    """A turn; a photo is there by its caption, as the text around it speaks of it."""
    text = str(row.get("text", ""))
    if row.get("blip_caption"):
        text = f"{text} [shares a photo: {row['blip_caption']}]".strip()
    return _made(str(row["dia_id"]), "turn", text, at, speaker=str(row["speaker"]), session=session)


def _observations(observed: Mapping[str, Any], n: int, at: Instant) -> Iterator[Memory]:
    """What the data set itself notes of a session, with the turns that it rests on."""
    for speaker, notes in observed.items():
        for i, (text, cited) in enumerate(notes):
            places = cited if isinstance(cited, list) else [cited]
            covers = [id for place in places for id in _evidence_ids(str(place))]
            yield _made(
                f"F{n}:{speaker}:{i}",
                "fact",
                str(text),
                at + 3600.0,
                speaker=speaker,
                session=f"s{n}",
                covers=tuple(dict.fromkeys(covers)),
            )


def _locomo_questions(rows: Sequence[Mapping[str, Any]], known: set[str]) -> Iterator[Asking]:
    for row in rows:
        category = str(row["category"])
        cited = [id for place in row.get("evidence", ()) for id in _evidence_ids(str(place))]
        evidence = tuple(dict.fromkeys(id for id in cited if id in known))
        if category != ADVERSARIAL and evidence:
            yield Asking(str(row["question"]), evidence, category)


def _evidence_ids(place: str) -> list[str]:
    """Ids in a citation; the file has `D8:6; D9:17`, `D:11:26` and `D30:05` too."""
    return [f"D{int(session)}:{turn}" for session, turn in _EVIDENCE.findall(place)]


def _spoken_date(text: str) -> Instant:
    """`1:56 pm on 8 May, 2023`, taken as UTC."""
    moment = datetime.strptime(f"{text.strip().upper()} +0000", "%I:%M %p ON %d %B, %Y %z")
    return moment.timestamp()


# --- either ----------------------------------------------------------------------------------


def _made(
    id: str,
    kind: Kind,
    text: str,
    at: Instant,
    *,
    speaker: str | None,
    session: str | None,
    covers: tuple[str, ...] = (),
) -> Memory:
    is_role = speaker in ("user", "assistant")
    return Memory(
        id=id,
        kind=kind,
        text=text,
        created_at=at,
        updated_at=at,
        valid_from=at,
        type="interaction" if kind == "fact" else None,
        source=Source(
            role=speaker if is_role and speaker else "user", via="import", session=session
        ),
        speaker=None if is_role else speaker,
        covers=covers,
    )
