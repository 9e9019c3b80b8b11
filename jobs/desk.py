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
from jobs.desk_words import Draw, Slots, Team, one

CHUNK = 1000
"""Rows drawn from one random stream. Changing it changes every desk ever generated."""
MOST_CLASSES = 3000
_COLUMNS = ("id", "title", "body", "label", "opened_at", "priority")
SCHEMA = pa.schema(
    [(name, pa.timestamp("s") if name == "opened_at" else pa.string()) for name in _COLUMNS]
)

# No ticket can take more than some 145 draws, every slot and typo counted; a fixed width keeps
# each row independent of how much its neighbours have to say.
_DRAWS = 160
_PLAUSIBLE = 0.8  # share of wrongly assigned tickets that went to a neighbouring team
_MOST_TYPOS = 14
_SHORT, _LONG = 0.3, 0.85  # quantiles of length that part short, usual and long tickets
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
        shares = np.asarray(sizes / sizes.sum(), dtype=np.float64)
        shares.flags.writeable = False  # every chunk is drawn from it
        return shares

    def rows(self, start: int, count: int) -> pa.Table:
        """Tickets `start` to `start + count`, as a table of `SCHEMA`.

        Times of opening fall in three years from January 2022, mostly in office hours; they do not
        grow with the row number, since a desk has no last row.

        Raises:
            ValueError: if `start` or `count` is negative.
        """
        tables = [self._table(c).slice(low, high - low) for c, low, high in _spans(start, count)]
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def truth(self, start: int, count: int) -> NDArray[np.int64]:
        """Index in `labels` of the team each ticket should have gone to; shape (count,).

        No column of `rows` holds it: it is there to measure noise, not to learn from.

        Raises:
            ValueError: if `start` or `count` is negative.
        """
        parts = [self._facts(c).truth[low:high] for c, low, high in _spans(start, count)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    @cached_property
    def _teams(self) -> tuple[Team, ...]:
        return words.teams(self.classes)

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        return np.array(words.neighbours(self.classes), dtype=np.int64)

    def _facts(self, chunk: int) -> _Facts:
        # Facts and words have a stream each, so that labels can be counted without writing text.
        rng = np.random.default_rng((self.seed, chunk, 0))
        # Rounding may leave the last sum a hair under 1, hence the minimum.
        at = np.cumsum(self.shares).searchsorted(rng.random(CHUNK), "right")
        truth = np.minimum(at, self.classes - 1).astype(np.int64)
        near = self._neighbours[truth, rng.integers(0, self._neighbours.shape[1], CHUNK)]
        anyone = (truth + rng.integers(1, self.classes, CHUNK)) % self.classes
        wrong = np.where(rng.random(CHUNK) < _PLAUSIBLE, near, anyone)
        label = np.where(rng.random(CHUNK) < self.noise, wrong, truth)
        days = 7 * rng.integers(0, _WEEKS, CHUNK) + rng.choice(7, CHUNK, p=_DAY_WEIGHTS)
        hours = rng.choice(24, CHUNK, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
        seconds = 86400 * days + 3600 * hours + rng.integers(0, 3600, CHUNK)
        priority = rng.choice(len(_PRIORITIES), CHUNK, p=_PRIORITY_WEIGHTS)
        return _Facts(truth, label, priority, _FIRST_MONDAY + seconds.astype("timedelta64[s]"))

    def _table(self, chunk: int) -> pa.Table:
        facts = self._facts(chunk)
        draws = np.random.default_rng((self.seed, chunk, 1)).random((CHUNK, _DRAWS)).tolist()
        teams = self._teams
        priorities = [_PRIORITIES[at] for at in facts.priority.tolist()]
        stamps = np.datetime_as_string(facts.opened, unit="s").tolist()
        facing = zip(facts.truth.tolist(), priorities, stamps, draws, strict=True)
        texts = [_ticket(teams[k], level, at, iter(row).__next__) for k, level, at, row in facing]
        columns = [
            [f"INC{row:07d}" for row in range(chunk * CHUNK, (chunk + 1) * CHUNK)],
            *zip(*texts, strict=True),
            [teams[k].label for k in facts.label.tolist()],
            facts.opened,
            priorities,
        ]
        arrays = [pa.array(cells, kind) for cells, kind in zip(columns, SCHEMA.types, strict=True)]
        return pa.table(arrays, schema=SCHEMA)


def _spans(start: int, count: int) -> list[tuple[int, int, int]]:
    """(chunk, low, high) for each chunk that the rows touch, low and high counted inside it."""
    if start < 0 or count < 0:
        raise ValueError(f"start is {start} and count is {count}; both must be at least 0.")
    end = start + count
    chunks = range(start // CHUNK, -(-end // CHUNK) if count else 0)
    return [(c, max(start - c * CHUNK, 0), min(end - c * CHUNK, CHUNK)) for c in chunks]


class _Scribe:
    """One person writing one ticket for one team."""

    def __init__(self, team: Team, priority: str, stamp: str, draw: Draw) -> None:
        self.team, self.priority, self.draw = team, priority, draw
        self.slots = Slots(team, stamp[:-3].replace("T", " "), draw)

    def chance(self, share: float) -> bool:
        return self.draw() < share

    def pick(self, options: Sequence[_T]) -> _T:
        return one(options, self.draw())

    def own(self, options: Sequence[_T]) -> _T:
        """One of the team's own options, leaning to those that this team meets most."""
        return one(options, (self.draw() ** 2 + self.team.taste) % 1.0)

    def write(self, wordings: tuple[str, ...]) -> str:
        """A phrase in one of its wordings, with this ticket's facts in it."""
        self.slots.next_phrase()
        return one(wordings, self.draw()).format_map(self.slots)


def _ticket(team: Team, priority: str, stamp: str, draw: Draw) -> tuple[str, str]:
    """Title and body of one ticket; the body may be empty."""
    scribe = _Scribe(team, priority, stamp, draw)
    heading, lead, vague = _complaint(scribe)
    bare = scribe.chance(0.08)
    if not bare and scribe.chance(0.12):
        heading = scribe.pick(words.VAGUE_TITLES)
    title = scribe.write(heading)
    body = "" if bare else _body(scribe, lead, vague)
    # One pass over both keeps a hurried writer hurried throughout; the mark is never typed.
    title, _, body = _wear(f"{title}\x1f{body}", draw).partition("\x1f")
    look = draw()
    if look < 0.03:
        return title.upper(), body
    return (title[:1].upper() + title[1:] if look < 0.6 else title), body


def _complaint(scribe: _Scribe) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Title, first sentence, and whether these leave open what it is that fails."""
    kind = scribe.draw()
    if kind < 0.47:
        return *scribe.own(scribe.team.area.topics), False
    if kind < 0.77:
        shared = scribe.pick(scribe.team.overlaps)
        return scribe.pick(shared.titles), scribe.pick(shared.symptoms), True
    if kind < 0.91:
        return scribe.pick(words.CAUSE_TITLES), scribe.pick(words.CAUSE_SYMPTOMS), False
    return scribe.pick(words.VAGUE_TITLES), scribe.pick(words.VAGUE_SYMPTOMS), True


def _body(scribe: _Scribe, lead: tuple[str, ...], vague: bool) -> str:
    """Greeting, a forwarded head, prose, log lines and signature; the prose alone is certain."""
    area, chance, length = scribe.team.area, scribe.chance, scribe.draw()
    prose = _prose(scribe, lead, vague, length)
    if chance(0.15):
        prose.append(prose.pop(0))  # some people come to the point last
    blocks = [" ".join(prose).strip().replace("\n ", "\n")]  # a list ends its own line
    for share, lines in ((0.08, words.FORWARDS), (0.45, words.GREETINGS)):
        if chance(share):
            blocks.insert(0, scribe.write(scribe.pick(lines)))
    if length > _LONG and chance(0.7):
        logs = dict.fromkeys(scribe.pick(area.logs) for _ in range(1 + int(scribe.draw() * 3)))
        blocks += sorted(map(scribe.write, logs))  # a log is in order of time
    if length > _SHORT and chance(0.5):
        blocks.append(scribe.write(scribe.pick(words.SIGNOFFS)))
    return "\n".join(blocks)


def _prose(scribe: _Scribe, lead: tuple[str, ...], vague: bool, length: float) -> list[str]:
    area, chance, pick, long = scribe.team.area, scribe.chance, scribe.pick, length > _LONG
    phrases = [lead]
    if vague and chance(0.7):
        phrases.append(pick(words.EVIDENCE))
    if chance(0.8 if scribe.team.regional else 0.2):
        phrases.append(pick(words.LOCUS))
    if length > _SHORT:
        phrases += [scribe.own(area.details) for _ in range(1 + long) if chance(0.55)]
        optional = (
            (0.25, words.STEPS),
            (0.7 if long else 0.15, words.BACKGROUND),
            (0.4, words.CONFUSERS),
            (0.4, words.IMPACT[scribe.priority]),
        )
        phrases += [pick(lines) for share, lines in optional if chance(share)]
        if chance(0.45):
            phrases.append(scribe.own(area.asks) if chance(0.4) else pick(words.ASKS))
    # Nobody says the same thing twice in other words, so phrases are told apart before wording.
    return [scribe.write(wordings) for wordings in dict.fromkeys(phrases)]


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
