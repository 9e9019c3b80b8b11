"""A made-up, unbalanced IT incident desk: tickets in free text and the team each was given to.

Every row is a pure function of the settings and its row number, so any worker can write any part
of a desk of any size and the parts fit together. The desk knows nothing of files, splits or
models. It does not know how well a model can do either: `ceiling` bounds accuracy by the wrongly
assigned tickets alone, while some tickets name too little for anyone to route them surely. The
text depends on numpy's PCG64 stream, which numpy keeps stable but does not promise for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs import desk_words as words
from jobs.desk_words import Draw, Lines, Slots, Team, one

CHUNK = 1000
"""Rows drawn from one random stream. Changing it changes every desk ever generated."""
MOST_CLASSES = 3000
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("body", pa.string()),
        ("label", pa.string()),
        ("opened_at", pa.timestamp("s")),
        ("priority", pa.string()),
    ]
)

# The longest ticket takes about 90 draws; a fixed width keeps a row apart from its neighbours.
_DRAWS = 160
_PLAUSIBLE = 0.8  # share of wrongly assigned tickets that went to a neighbouring team
_MOST_TYPOS = 14
_FIRST_MONDAY = np.datetime64("2022-01-03T00:00:00", "s")
_WEEKS = 156
_DAY_WEIGHTS = np.array([24, 20, 18, 17, 15, 3, 3]) / 100
_HOUR_WEIGHTS = np.array([1] * 6 + [3, 8, 16, 18, 15, 11, 8, 12, 13, 12, 9, 6, 3, 2] + [1] * 4)
_PRIORITIES = ("P1", "P2", "P3", "P4")
_PRIORITY_WEIGHTS = (0.03, 0.15, 0.62, 0.20)

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Facts:
    """What is decided about the rows of one chunk before a word is written; arrays of (CHUNK,)."""

    truth: NDArray[np.int64]
    label: NDArray[np.int64]
    priority: NDArray[np.int64]
    opened: NDArray[np.datetime64]


@dataclass(frozen=True)
class Desk:
    """An incident desk of `classes` teams.

    Args:
        classes: number of teams, 2 to 3,000.
        skew: exponent of the Zipf law of team sizes, at least 0; 0 makes all teams even.
        seed: at least 0; desks that differ in seed alone have the same teams and other tickets.
        noise: share of tickets assigned to a wrong team, in [0, 0.5).

    Raises:
        ValueError: if an argument is outside its range.
    """

    classes: int
    skew: float
    seed: int
    noise: float = 0.03

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= MOST_CLASSES:
            raise ValueError(f"classes is {self.classes}; it must be 2 to {MOST_CLASSES}.")
        # Written so that NaN fails too.
        if not 0 <= self.skew < float("inf"):
            raise ValueError(f"skew is {self.skew}; it must be a finite number of at least 0.")
        if not 0 <= self.noise < 0.5:
            raise ValueError(f"noise is {self.noise}; it must be at least 0 and below 0.5.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0.")

    @property
    def labels(self) -> list[str]:
        """Team names, largest team first: a dozen general teams, then regional product teams."""
        return [team.label for team in self._teams]

    @property
    def ceiling(self) -> float:
        """Share of rows labelled with their true team, which accuracy cannot be expected to pass.

        A wrongly assigned ticket never gets its true team by chance, so this is 1 - noise.
        """
        return 1.0 - self.noise

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Expected share of tickets that are truly each team's; shape (classes,), sums to 1.

        In the order of `labels`, so team sizes fall with k as 1 / (k + 1) ** skew. Labels follow
        it closely, not exactly: wrong assignment moves a few tickets between teams.
        """
        sizes = np.arange(1, self.classes + 1, dtype=np.float64) ** -float(self.skew)
        return np.asarray(sizes / sizes.sum(), dtype=np.float64)

    def rows(self, start: int, count: int) -> pa.Table:
        """Tickets `start` to `start + count`, as a table of `SCHEMA`.

        Times of opening fall in three years from January 2022, mostly in office hours; they do not
        grow with the row number, since a desk has no last row.

        Raises:
            ValueError: if `start` or `count` is negative.
        """
        spans = _spans(start, count)
        tables = [self._table(chunk).slice(low, high - low) for chunk, low, high in spans]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def truth(self, start: int, count: int) -> NDArray[np.int64]:
        """Index in `labels` of the team each ticket should have gone to; shape (count,).

        No column of `rows` holds it: it is there to measure noise, not to learn from.

        Raises:
            ValueError: if `start` or `count` is negative.
        """
        spans = _spans(start, count)
        parts = [self._facts(chunk).truth[low:high] for chunk, low, high in spans]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    @cached_property
    def _teams(self) -> tuple[Team, ...]:
        return words.teams(self.classes)

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        # Short lists are repeated to one width, so that a chunk picks with one index.
        rows = words.neighbours(self.classes)
        width = max(map(len, rows))
        return np.array([np.resize(row, width) for row in rows], dtype=np.int64)

    def _facts(self, chunk: int) -> _Facts:
        # Facts and words have a stream each, so that labels can be counted without writing text.
        rng = np.random.default_rng((self.seed, chunk, 0))
        # rounding may leave the last cumulative share a hair under 1
        steps = np.minimum(np.cumsum(self.shares).searchsorted(rng.random(CHUNK), "right"),
                           self.classes - 1)  # fmt: skip
        truth = steps.astype(np.int64)
        near = self._neighbours[truth, rng.integers(0, self._neighbours.shape[1], CHUNK)]
        anyone = (truth + rng.integers(1, self.classes, CHUNK)) % self.classes
        wrong = np.where(rng.random(CHUNK) < _PLAUSIBLE, near, anyone)
        label = np.where(rng.random(CHUNK) < self.noise, wrong, truth)
        days = 7 * rng.integers(0, _WEEKS, CHUNK) + rng.choice(7, CHUNK, p=_DAY_WEIGHTS)
        hours = rng.choice(24, CHUNK, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
        seconds = 86400 * days + 3600 * hours + rng.integers(0, 3600, CHUNK)
        priority = rng.choice(len(_PRIORITIES), CHUNK, p=_PRIORITY_WEIGHTS)
        opened = _FIRST_MONDAY + seconds.astype("timedelta64[s]")
        return _Facts(truth, label, priority, opened)

    def _table(self, chunk: int) -> pa.Table:
        facts = self._facts(chunk)
        draws = np.random.default_rng((self.seed, chunk, 1)).random((CHUNK, _DRAWS)).tolist()
        teams = self._teams
        priorities = [_PRIORITIES[at] for at in facts.priority.tolist()]
        stamps = np.datetime_as_string(facts.opened, unit="s").tolist()
        texts = [
            _ticket(teams[team], priority, stamp, iter(draw).__next__)
            for team, priority, stamp, draw in zip(
                facts.truth.tolist(), priorities, stamps, draws, strict=True
            )
        ]
        first = chunk * CHUNK
        columns = [
            [f"INC{row:07d}" for row in range(first, first + CHUNK)],
            [title for title, _ in texts],
            [body for _, body in texts],
            [teams[team].label for team in facts.label.tolist()],
            facts.opened,
            priorities,
        ]
        return pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)],
            schema=SCHEMA,
        )


def _spans(start: int, count: int) -> list[tuple[int, int, int]]:
    """(chunk, low, high) for each chunk that the rows touch, low and high counted inside it."""
    if start < 0 or count < 0:
        raise ValueError(f"start is {start} and count is {count}; both must be at least 0.")
    end = start + count
    chunks = range(start // CHUNK, -(-end // CHUNK)) if count else range(0)
    return [(c, max(start - c * CHUNK, 0), min(end - c * CHUNK, CHUNK)) for c in chunks]


class _Scribe:
    """One person writing one ticket for one team."""

    def __init__(self, team: Team, priority: str, stamp: str, draw: Draw) -> None:
        self.team, self.priority, self.draw = team, priority, draw
        self.slots = Slots(team, stamp.replace("T", " "), draw)

    def chance(self, share: float) -> bool:
        return self.draw() < share

    def say(self, lines: Lines) -> str:
        """One phrase of `lines` with this ticket's facts in it."""
        return self.fill(one(lines, self.draw()))

    def own(self, options: Sequence[_T]) -> _T:
        """One of the team's own options, leaning to those that this team meets most."""
        return one(options, (self.draw() ** 2 + self.team.taste) % 1.0)

    def fill(self, wordings: tuple[str, ...]) -> str:
        # Small numbers differ from phrase to phrase; all other facts hold for the whole ticket.
        self.slots.pop("n", None)
        return one(wordings, self.draw()).format_map(self.slots)


def _ticket(team: Team, priority: str, stamp: str, draw: Draw) -> tuple[str, str]:
    """Title and body of one ticket; the body may be empty."""
    scribe = _Scribe(team, priority, stamp, draw)
    title, lead, vague = _complaint(scribe)
    body = "" if scribe.chance(0.08) else _body(scribe, lead, vague)
    if body and scribe.chance(0.12):
        title = scribe.say(words.VAGUE_TITLES)
    # One pass over both keeps a hurried writer hurried throughout; the mark is never typed.
    title, _, body = _wear(f"{title}\x1f{body}", draw).partition("\x1f")
    look = draw()
    return (
        title.upper() if look < 0.03 else title[:1].upper() + title[1:] if look < 0.6 else title
    ), body


def _complaint(scribe: _Scribe) -> tuple[str, str, bool]:
    """Title, first sentence, and whether these leave open what it is that fails."""
    area, kind = scribe.team.area, scribe.draw()
    if kind < 0.44:
        titles, symptoms = scribe.own(area.topics)
        return scribe.fill(titles), scribe.fill(symptoms), False
    if kind < 0.76:
        shared = one(scribe.team.overlaps, scribe.draw())
        return scribe.say(shared.titles), scribe.say(shared.symptoms), True
    if kind < 0.90:
        return scribe.say(words.CAUSE_TITLES), scribe.say(words.CAUSE_SYMPTOMS), False
    return scribe.say(words.VAGUE_TITLES), scribe.say(words.VAGUE_SYMPTOMS), True


def _body(scribe: _Scribe, lead: str, vague: bool) -> str:
    area, chance, length = scribe.team.area, scribe.chance, scribe.draw()
    short, long = length < 0.3, length > 0.85
    prose = [lead]
    if vague and chance(0.6):
        prose.append(scribe.say(words.EVIDENCE))
    if chance(0.8 if scribe.team.regional else 0.2):
        prose.append(scribe.say(words.LOCUS))
    if not short:
        prose += [
            scribe.fill(scribe.own(area.details)) for _ in range(2 if long else 1) if chance(0.55)
        ]
        for share, lines in (
            (0.25, words.STEPS),
            (0.7 if long else 0.15, words.BACKGROUND),
            (0.4, words.CONFUSERS),
        ):
            if chance(share):
                prose.append(scribe.say(lines))
        if chance(0.4):
            prose.append(scribe.say(words.IMPACT[scribe.priority]))
        if chance(0.45):
            prose.append(
                scribe.fill(scribe.own(area.asks)) if chance(0.4) else scribe.say(words.ASKS)
            )
    if chance(0.15):
        prose.append(prose.pop(0))  # some people come to the point last
    blocks = [" ".join(prose)]
    if chance(0.08):
        blocks.insert(0, scribe.say(words.FORWARDS))
    if chance(0.45):
        blocks.insert(0, scribe.say(words.GREETINGS))
    if long and chance(0.7):
        blocks += [scribe.say(area.logs) for _ in range(1 + int(scribe.draw() * 3))]
    if not short and chance(0.5):
        blocks.append(scribe.say(words.SIGNOFFS))
    return "\n".join(blocks)


def _wear(text: str, draw: Draw) -> str:
    """The text as a careful, an average or a hasty person types it."""
    care, habit = draw(), draw()
    if habit < 0.2:
        for whole, brief in words.ABBREVIATIONS:
            text = text.replace(whole, brief)
    if 0.15 < habit < 0.22:
        text = text.lower()
    # Typos to a character, for words of about six: most writers make next to none.
    rate = 0.0007 if care < 0.55 else 0.004 if care < 0.88 else 0.013
    for _ in range(min(int(len(text) * rate + draw()), _MOST_TYPOS)):
        spot = draw() * (len(text) - 1)
        at, how = int(spot), spot % 1.0
        pair = text[at : at + 2]
        # Letters only, so that codes and host numbers stay what they are.
        if pair.isalpha() and pair.islower():
            slip = pair[::-1] if how < 0.5 else pair[0] if how < 0.8 else pair[0] + pair
            text = text[:at] + slip + text[at + 2 :]
    return text
