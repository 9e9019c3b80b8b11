"""Tickets for the benchmarks of data preparation: as many as one likes, in seconds, by a seed.

Sixteen words a row, Zipf's law over words and labels; 3% of the rows repeat an earlier text, a
third of those with other white space, a third decomposed, a tenth under a label of their own.
Not `jobs.synthesize`: a benchmark of preparing should not change when the desk does.
"""

import unicodedata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WORDS = 16  # a row
VOCABULARY = 6000
LABELS = 150
FILE_ROWS = 250_000
REPEATED = 0.03  # share of the rows whose text stood before
FAR = 0.2  # share of those that repeat a text of the first file
RELABELLED = 0.1  # share of those that stand under a label of their own: mostly conflicts
NULLS = 0.0002
SEPARATORS = ("  ", "\t", " \n", "\u00a0 ")

# More than half of all words of a text, as in English; a tokenizer finds them whole.
COMMON = """
the to and of a in is it on for not we that this with have from are was be at as an our can no my
when after since but error please user access has been all any they one which there server does who
login will mail out would if about get new password time since printer system more up what network
same so only other some them then down now account again page could order again still every file
phone before day first message report screen two work team morning customer open office data
"""

Words = npt.NDArray[np.int64]  # [rows, WORDS]: places in the vocabulary


def write(folder: Path, rows: int, *, seed: int = 0) -> None:
    """Writes `rows` tickets (text, label) in files of FILE_ROWS; the same for the same numbers."""
    folder.mkdir(parents=True)
    words = vocabulary(np.random.default_rng(seed))
    # Decomposed words follow the composed ones.
    spelled = pa.array([*words, *(unicodedata.normalize("NFD", word) for word in words)])
    first: tuple[Words, Words] | None = None
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        rng = np.random.default_rng([seed, number])
        texts, labels = draw(rng, min(FILE_ROWS, rows - start))
        repeated = repeat(rng, texts, labels, first)
        first = first or (texts, labels)
        table = pa.table(
            {
                "text": spell(rng, spelled, texts, repeated),
                "label": pa.array([f"team {k:03}" for k in range(LABELS)]).take(pa.array(labels)),
            }
        )
        pq.write_table(table, folder / f"tickets-{number:04}.parquet", compression="zstd")


def vocabulary(rng: np.random.Generator) -> list[str]:
    """The most frequent words first: common ones, and then jargon of one to three syllables, of
    which every twentieth has an accent; a third of the texts have one."""
    syllables = [a + b for a in (*"bcdfghklmnprstvw", "tr", "st") for b in "aeiou"]
    found = dict.fromkeys(COMMON.split())
    while len(found) < VOCABULARY:
        word = "".join(rng.choice(syllables, size=rng.integers(1, 4)))
        accented = word.replace("e", "é").replace("o", "ö") if len(found) % 20 == 0 else word
        found.setdefault(accented)
    return list(found)


def draw(rng: np.random.Generator, rows: int) -> tuple[Words, Words]:
    """(words, labels) of independent tickets."""
    texts = zipf(rng, VOCABULARY, 1.0, rows * WORDS).reshape(rows, WORDS)
    return texts, zipf(rng, LABELS, 1.1, rows)


def zipf(rng: np.random.Generator, kinds: int, exponent: float, count: int) -> Words:
    upper = np.cumsum(1.0 / np.arange(1, kinds + 1) ** exponent)
    return np.searchsorted(upper, rng.random(count) * upper[-1]).clip(max=kinds - 1)


def repeat(
    rng: np.random.Generator, texts: Words, labels: Words, first: tuple[Words, Words] | None
) -> Words:
    """Lets some rows repeat an earlier text, in place; which."""
    chosen = rng.random(len(texts)) < REPEATED
    chosen[0] = False
    originals, repeated = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    before = np.searchsorted(originals, repeated)
    origins = originals[(rng.random(len(repeated)) * before).astype(np.int64)]
    drawn = labels[repeated]
    texts[repeated], labels[repeated] = texts[origins], labels[origins]
    if first is not None:
        far = repeated[rng.random(len(repeated)) < FAR]
        origins = rng.integers(0, len(first[0]), len(far))
        texts[far], labels[far] = first[0][origins], first[1][origins]
    own = rng.random(len(repeated)) < RELABELLED
    labels[repeated[own]] = drawn[own]
    return repeated


def spell(rng: np.random.Generator, words: pa.Array, texts: Words, repeated: Words) -> pa.Array:
    """The texts as strings: repeated ones in three ways of writing, a few null."""
    spaced, decomposed = repeated[0::3], repeated[1::3]
    places = texts.copy()
    places[decomposed] += VOCABULARY
    separators = np.zeros(len(texts), dtype=np.int64)
    separators[spaced] = rng.integers(1, len(SEPARATORS) + 1, len(spaced))
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(len(texts) + 1, dtype=np.int32) * WORDS),
        words.take(pa.array(places.ravel())),
    )
    joined = pc.binary_join(lists, pa.array([" ", *SEPARATORS]).take(pa.array(separators)))
    null = pa.array(rng.random(len(texts)) < NULLS)
    return pc.if_else(null, pa.scalar(None, pa.string()), joined)
