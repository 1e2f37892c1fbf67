"""Which memories hold one value at a time, and when a user takes one back.

Strategy: a key names a slot ("home") that has one value; a newer value ends the older one.
Models are loose with keys, so the few that mean several things at once are listed, and so are
the spellings of the commonest ones. Data, and two questions about it.
"""

from __future__ import annotations

import re

from gateway.core.wording import folded

MANY_VALUED = frozenset(
    {
        *("like", "likes", "dislike", "dislikes", "hobby", "hobbies", "interest", "interests"),
        *("allergy", "allergies", "tool", "tools", "skill", "skills", "pet", "pets", "child"),
        *("children", "friend", "friends", "sibling", "siblings", "family", "goal", "goals"),
        *("project", "projects", "favorite", "favourite", "favorites", "favourites", "trait"),
        *("preference", "fact", "note", "memory", "event", "experience", "other", "general"),
    }
)
"""Keys that models use for things of which one has several: they replace nothing."""

_ALIASES = {
    "preferred_language": "language",
    "response_language": "language",
    "reply_language": "language",
    "response_length": "answer_length",
    "reply_length": "answer_length",
    "verbosity": "answer_length",
    "location": "home",
    "residence": "home",
    "city": "home",
    "home_city": "home",
    "lives_in": "home",
    "occupation": "role",
    "job": "role",
    "job_title": "role",
    "profession": "role",
    "full_name": "name",
    "user_name": "name",
    "time_zone": "timezone",
    "tz": "timezone",
}


def slot_of(memory_type: str | None, key: str | None) -> tuple[str, str] | None:
    """What a keyed memory holds the one value of; None where it replaces nothing.

    Profile and preference share their keys (a model calls `language` now the one, now the
    other); a task state's key is its project. The key itself stays as it was given.
    """
    if key is None or memory_type in (None, "interaction") or key in MANY_VALUED:
        return None
    return ("task" if memory_type == "task_state" else "person", plain_key(key))


def plain_key(key: str) -> str:
    """A key under its commonest spelling."""
    return _ALIASES.get(key, key)


# --- saying "forget" ---------------------------------------------------------------------------

_FORGET = re.compile(
    r"\b(?:forget|unlearn|erase|delete|remove|wipe|do(?:n'?t| not) (?:want you to )?(?:remember"
    r"|keep|store|save)|(?:clear|reset|empty) (?:your|the|all|my) (?:\w+ )?memor(?:y|ies)"
    r"|stop remembering|off the record"
    r"|lösch\w*|efface\w*|supprim\w*|borr[ae]\w*|elimin[ae]\w*|cancell[ai]\w*|apag(?:a|ue)\w*"
    r"|verwijder\w*|usuń|ta bort|slet|sil)\b|удали|删除|刪除|삭제|消して|احذف|امسح|हटा",
    re.IGNORECASE,
)


def asks_to_forget(text: str) -> bool:
    """Whether a user asks for something to be forgotten, not only says that it has changed."""
    said = folded(text)
    return _FORGET.search(said) is not None or _FORGETTING.search(said) is not None


_FORGETTING = re.compile(
    r"(?<!don't )(?<!not )(?<!never )\b(?:forget|unlearn|stop remembering|off the record"
    r"|do(?:n'?t| not) (?:want you to )?remember|vergiss|vergesst|vergessen|oublie[rsz]?"
    r"|olvid[ae]\w*|dimentic\w*|scorda\w*|esque[cç]\w*|vergeet|vergeten|zapomnij\w*|zapomeň\w*|glöm|glem|unohda"
    r"|unut(?:un(?:uz)?)?|uită|ξέχνα|ξέχασε|انس|انسى)\b"
    r"|\b(?:erase|delete|remove|wipe|clear|reset|empty|lösche?|effacez?|supprime[zr]?|borra\w*"
    r"|elimin[ae]\w*|cancell\w*|apaga\w*|verwijder\w*|usuń)\b.{0,60}\b(?:memor\w*|remember\w*"
    r"|about me|i (?:said|told)|you know|gedächtnis|über mich|gesagt|weißt|mémoire|sur moi"
    r"|souven\w*|sobre m[ií]|te dije|ricord\w*|su di me|geheugen|over mij|pamięc\w*)\b"
    r"|забудь|忘れて|忘记|忘記|忘掉|잊어|잊으|भूल जा",
    re.IGNORECASE,
)


_ENDED = re.compile(
    r"\b(?:no longer|any ?more|used to|stopped|quit|gave up|given up|not .{0,40}\bnow|left"
    r"|nicht mehr|kein\w* .{0,40}mehr|aufgehört|aufgegeben|ya no|dej[éeó]|he dejado|ne .{1,40} plus"
    r"|n'\w+ .{0,40}plus|arrêté|non .{1,40} più|ho smesso|não .{1,40} mais|deixei|parei"
    r"|niet meer|geen .{1,40} meer|gestopt|już nie|przesta\w+)\b"
    r"|больше не|не .{1,40} больше|もう|やめ|不再|已经不|不是.{0,20}了|더 이상|لم أعد|अब नहीं",
    re.IGNORECASE,
)


def may_end(text: str) -> bool:
    """Whether a user may be saying that something told before is so no longer."""
    said = folded(text)
    return _ENDED.search(said) is not None or _FORGETTING.search(said) is not None


def may_take_back(text: str) -> bool:
    """Whether a user may be asking for something known to be forgotten. Narrower than
    `asks_to_forget`: "remove the import" is work, not a wish about memories."""
    return _FORGETTING.search(folded(text)) is not None
