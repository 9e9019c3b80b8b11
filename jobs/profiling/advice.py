"""From the profile of prepared data to plain sentences with the figures in them.

It knows what the numbers of `jobs.profiling.profile` mean and which setting answers them; it
measures nothing. A sentence is said only where there is something to do or to know.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.profiling.figures import listing, several, share, times

# From here on a matter is worth a sentence. None of these is a law: they keep the list short.
KEPT_SHARE = 0.5
RATIO = 10.0
CUT_SHARE = 0.05
DUPLICATE_SHARE = 0.2
NEAR_DUPLICATE_SHARE = 0.01
CONFLICT_SHARE = 0.01

Profile = Mapping[str, Any]


def advise(profile: Profile) -> list[str]:
    """The sentences that `profile` warrants, the gravest matters of the classes first."""
    return [
        sentence
        for speak in (_classes, _splits, _lengths, _near_duplicates, _conflicts, _duplicates)
        for sentence in speak(profile)
    ]


def _classes(profile: Profile) -> Iterator[str]:
    if profile["undersampled_share"] < KEPT_SHARE:
        text = (
            f"Undersampling to the rarest keeps {share(profile['undersampled_share'])} of the rows"
        )
        kept = {found["name"]: share(found["share"]) for found in profile["balance"]}
        gentler = []
        if "undersample, min_rows 1" in kept:
            least = f"balance.min_rows {profile['few']['below']} (the default)"
            gentler.append(f"{kept['undersample']} with {least}")
        if "undersample, max_ratio 10" in kept:
            gentler.append(f"{kept['undersample, max_ratio 10']} with balance.max_ratio 10")
        yield f"{'; '.join([text, *gentler])}."
    few = profile["few"]
    if few["classes"]:
        yield (
            f"{several(few['classes'], 'class has', 'classes have')} fewer than {few['below']} "
            f"training rows: {listing(few['labels'], few['classes'])}."
        )
    if profile["ratio"] > RATIO:
        yield (
            f"The largest class has {times(profile['ratio'])} times the rows of the smallest: try "
            "balance.strategy class-weights or logit-adjustment, which keep every row."
        )


def _splits(profile: Profile) -> Iterator[str]:
    for split, found in profile["without"].items():
        if found["classes"]:
            yield (
                f"{several(found['classes'], 'class has', 'classes have')} no {split} rows, so "
                f"that nothing measures {'it' if found['classes'] == 1 else 'them'} there: "
                f"{listing(found['labels'], found['classes'])}."
            )


def _lengths(profile: Profile) -> Iterator[str]:
    lengths = profile["lengths"]
    if lengths is None or lengths["cut_share"] <= CUT_SHARE:
        return
    text = (
        f"{share(lengths['cut_share'])} of the texts are longer than model.max_tokens "
        f"({lengths['max_tokens']}) and lose their end"
    )
    longer = [at for at in lengths["limits"] if at["max_tokens"] > lengths["max_tokens"]]
    enough = next((at for at in longer if at["cut_share"] <= CUT_SHARE), None)
    better = enough or next(reversed(longer), None)
    if better is None:
        yield f"{text}; the model reads no more."
    else:
        cut = f"{share(better['cut_share'])} of them" if better["cut_share"] else "none"
        yield f"{text}; model.max_tokens {better['max_tokens']} would cut {cut}."


def _near_duplicates(profile: Profile) -> Iterator[str]:
    found = profile["near_duplicates"]
    if found is not None and found["share"] > NEAR_DUPLICATE_SHARE:
        yield (
            f"At least {share(found['share'])} of the validation and test texts have a "
            "near-duplicate in training: their scores are better than those of new texts will be."
        )


def _conflicts(profile: Profile) -> Iterator[str]:
    conflicts = profile["conflicts"]
    if conflicts["share"] > CONFLICT_SHARE:
        yield (
            f"{several(conflicts['texts'], 'text stands', 'texts stand')} under several labels "
            f"({share(conflicts['share'])} of the distinct ones): conflicts/ lists them, and "
            "split.conflicts says what becomes of them."
        )


def _duplicates(profile: Profile) -> Iterator[str]:
    duplicates = profile["duplicates"]
    if duplicates["share"] > DUPLICATE_SHARE:
        yield (
            f"{share(duplicates['share'])} of the rows repeat a text that is there already "
            f"({duplicates['rows']:,} rows): was something exported twice?"
        )
