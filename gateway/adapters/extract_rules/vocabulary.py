"""The words that readings know: languages, lengths, trades, and what no name, place or thing is."""

from __future__ import annotations

import re

# fmt: off
LANGUAGES = {
    "english": "en", "spanish": "es", "german": "de", "french": "fr", "italian": "it",
    "portuguese": "pt", "dutch": "nl", "polish": "pl", "russian": "ru", "ukrainian": "uk",
    "turkish": "tr", "arabic": "ar", "hebrew": "he", "hindi": "hi", "chinese": "zh",
    "mandarin": "zh", "japanese": "ja", "korean": "ko", "swedish": "sv", "norwegian": "no",
    "danish": "da", "finnish": "fi", "czech": "cs", "greek": "el", "hungarian": "hu",
    "romanian": "ro", "vietnamese": "vi", "thai": "th", "indonesian": "id", "catalan": "ca",
}
LENGTHS = {
    "short": "short", "shorter": "short", "brief": "short", "briefer": "short", "concise": "short",
    "terse": "short", "succinct": "short", "long": "long", "longer": "long", "detailed": "long",
    "in-depth": "long", "thorough": "long", "elaborate": "long",
}
OCCUPATIONS = re.compile(
    r"\w+(?:er|or|ist|cian|ologist)|nurse|student|chef|cook|clerk|pilot|architect|accountant"
    r"|consultant|assistant|scientist|analyst|librarian|veterinarian|attorney|judge|surgeon|vet"
    r"|ceo|cto|cfo|dba|sre|devops|freelancer|entrepreneur|founder|intern|researcher|fellow|postdoc"
    r"|pharmacist|paramedic|midwife|mechanic|plumber|electrician|guide|coach|agent|apprentice"
    r"|secretary|sales(?:man|woman|person)|fire(?:man|fighter)|police(?:man|woman)|soldier|priest"
)
NO_OCCUPATIONS = frozenset({
    "beginner", "customer", "user", "newcomer", "lover", "member", "smoker", "believer", "fighter",
    "number", "stranger", "matter", "master", "sinner", "winner", "loser", "learner", "speaker",
    "mother", "father", "brother", "sister", "visitor", "owner", "subscriber", "sponsor", "reader",
})
NO_THING = re.compile(
    r"(?:it|that|this|these|those|them|you|your|him|her|his|its|how|what|when|where|the (?:way|idea"
    r"|first|second|last|new|one|other|following|answer|sound|look)|to see (?:it|that|this)|myself"
    r"|nothing|anything|something|everything|all|one|both|neither|none|not|an? (?:lot|few|bit)"
    r"|to (?:say|admit|ask|bother|interrupt|break it)|when|if)\b",
    re.IGNORECASE,
)
NO_PLACE = frozenset({
    "fear", "peace", "hope", "hell", "harmony", "poverty", "sin", "a", "an", "my", "our", "your",
    "his", "her", "their", "constant", "it", "here", "there", "this", "that", "shared", "dark",
    "light", "version", "step", "plan", "production", "remote",
    # in German
    "angst", "frieden", "armut", "saus", "hause", "scheidung", "sünde", "freiheit",
})
NO_HOMES = frozenset({
    "linux", "ubuntu", "windows", "macos", "mac", "android", "ios", "kubernetes", "docker", "aws",
    "azure", "gcp", "postgres", "postgresql", "mysql", "mongodb", "redis", "python", "java",
    "javascript", "typescript", "rust", "go", "golang", "kotlin", "swift", "react", "vue", "django",
    "angular", "svelte", "node", "nextjs", "flask", "fastapi", "rails", "git", "github", "gitlab",
    "jira", "slack", "teams", "notion", "obsidian", "vim", "neovim", "emacs", "vscode", "chrome",
    "firefox", "excel", "terraform", "graphql", "kafka", "spark", "wordpress", "shopify", "signal",
    "telegram", "whatsapp", "bluesky", "mastodon",
})
"""What one moves to and works in, but does not live in."""
NO_NAMES_OF_OTHERS = frozenset(LANGUAGES) | frozenset({
    "american", "british", "canadian", "australian", "indian", "mexican", "brazilian", "swiss",
    "austrian", "belgian", "irish", "scottish", "welsh", "egyptian", "iranian", "persian", "iraqi",
    "israeli", "pakistani", "bangladeshi", "nigerian", "kenyan", "ghanaian", "moroccan", "tunisian",
    "algerian", "ethiopian", "argentinian", "argentine", "chilean", "colombian", "peruvian",
    "venezuelan", "cuban", "filipino", "filipina", "malaysian", "singaporean", "taiwanese",
    "european", "african", "asian", "latino", "latina", "serbian", "croatian", "bosnian",
    "bulgarian", "slovak", "slovenian", "albanian", "lithuanian", "latvian", "estonian", "armenian",
    "kurdish", "lebanese", "syrian", "palestinian", "afghan", "nepali", "cambodian", "mongolian",
    "icelandic", "muslim", "catholic", "jewish", "hindu", "buddhist", "protestant", "sikh",
})
"""What somebody is, written as a name is: "my wife is Italian"."""
NO_NAME = frozenset({
    "not", "a", "an", "the", "very", "so", "on", "in", "at", "too", "hard", "long", "unknown",
    "what", "maybe", "later", "back", "when", "if", "crazy", "whatever", "anything", "it", "that",
    "no", "fine", "good", "ok", "okay", "well", "ready", "new", "sorry", "sure", "done", "lost",
    "tomorrow", "today", "tonight", "asap", "now", "soon", "anytime", "again", "please", "after",
    "before", "whenever", "stupid", "old", "egal", "unwichtig", "unbekannt",
})
ONE_OF_THESE = re.compile(
    r"(?:option|version|variant|choice|answer|number|draft|design|solution|approach)s? (?:\w|\d+)",
    re.IGNORECASE,
)
"""What was offered in this conversation: "I prefer option B"."""
PLAYED = re.compile(
    r"\bin (?:this|the|my) (?:scenario|story|game|scene|play|dream|novel|exercise|example|film"
    r"|movie)\b",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(r"[\[\]{}<>$_]|^(?:[xX]+|\W*)$")
"""What a template leaves to be filled in."""
QUESTION_WORDS = frozenset(
    {"what", "wher", "where", "how", "when", "who", "why", "about", "said", "told", "say", "know"}
)
# fmt: on
PLACE_ENDS = re.compile(
    r",?\s+(?:not|until|till|living|based|working|though|with|near|since|for|because|last|this|next|where|but|so|as|at|on|when|after|from|to|during"
    r"|every|btw|and\s+(?:i|my|we|in|work|want|wanna|need|would|like|love|hate|prefer|enjoy|am|have|had|was"
    r"|study|speak|plan|go|use|do|don't|drive|commute|run|travel|come|can|think|look|will)|yesterday|today|now|currently|right|\d{4}|these|a|an|which|who"
    r"|together|alone|again|recently|permanently|temporarily|already"
    r"|\w+ (?:days|weeks|months|years)"
    r"|in\s+(?:a|an|the\s+\w+ of|\d{4}|january|february|march|april|may|june|july|august"
    r"|september|october|november|december))\b.*$",
    re.IGNORECASE,
)
MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
SINCE = re.compile(
    r"\b(?:yesterday|today|last (?:week|month|year|\w+day)|(?:\w+ )?\w+ (?:days?|weeks?|months?"
    r"|years?) ago|in (?:19|20)\d\d)\b",
    re.IGNORECASE,
)
