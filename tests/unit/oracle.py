"""The split once more, in SQL: what DuckDB says about where each text belongs.

Written from the contract of prepared data, with no code of `jobs.splits`. It shares what identity
and order are, `normalise`, `text_ids` and `salted`, whose numbers come in as columns. Shares are
whole per cents, so that all of it is counting in integers.
"""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from jobs.classifier.text import normalise, salted, text_ids

# The distinct texts: each with the label that has most of its rows (ties: the smallest label; both
# DuckDB and Python order strings by code point), and its rank among the texts of that label.
RANKED = """
CREATE TEMP TABLE ranked AS
WITH votes AS (
    SELECT text, place, label, count(*) AS votes FROM tickets GROUP BY text, place, label
), owned AS (
    SELECT text, place, label AS owner FROM votes
    QUALIFY row_number() OVER (PARTITION BY text ORDER BY votes DESC, label) = 1
)
SELECT text, owner, row_number() OVER (PARTITION BY owner ORDER BY place) AS rank FROM owned
"""

# Largest remainder in hundredths of a text. Sides are numbered: 0 train, 1 validation, 2 test; of
# equal remainders the lower side is served first.
ROUNDED = """
CREATE TEMP TABLE rounded AS
WITH shares(side, percent) AS (
    VALUES (0, 100 - $validation - $test), (1, $validation), (2, $test)
), sizes AS (
    SELECT owner, count(*) AS texts FROM ranked GROUP BY owner
), parts AS (
    SELECT owner, texts, side, texts * percent // 100 AS whole, texts * percent % 100 AS rest
    FROM sizes CROSS JOIN shares
), served AS (
    SELECT owner, texts, side, whole, texts - sum(whole) OVER (PARTITION BY owner) AS left_over,
           row_number() OVER (PARTITION BY owner ORDER BY rest DESC, side) AS turn
    FROM parts
), filled AS (
    SELECT owner, texts, side, whole + CASE WHEN turn <= left_over THEN 1 ELSE 0 END AS quota
    FROM served
)
SELECT owner, any_value(texts) AS texts,
       any_value(quota) FILTER (side = 0) AS train,
       any_value(quota) FILTER (side = 1) AS validation,
       any_value(quota) FILTER (side = 2) AS test
FROM filled GROUP BY owner
"""

# The floor: a label's every text more than two, and every split that is asked for, holds at least
# one. Lifted one after the other; the largest gives, of equal ones the first of the order above.
LIFTED = """
CREATE TEMP TABLE quotas AS
WITH for_train AS (
    SELECT owner, texts,
           CASE WHEN train = 0 THEN 1 ELSE train END AS train,
           validation - CASE WHEN train = 0 AND validation >= test THEN 1 ELSE 0 END AS validation,
           test - CASE WHEN train = 0 AND validation < test THEN 1 ELSE 0 END AS test
    FROM rounded
), for_validation AS (
    SELECT *, validation = 0 AND texts >= 3 AND $validation > 0 AS lacks FROM for_train
), with_validation AS (
    SELECT owner, texts,
           train - CASE WHEN lacks AND train >= test THEN 1 ELSE 0 END AS train,
           CASE WHEN lacks THEN 1 ELSE validation END AS validation,
           test - CASE WHEN lacks AND train < test THEN 1 ELSE 0 END AS test
    FROM for_validation
), for_test AS (
    SELECT *, test = 0 AND texts >= 3 AND $test > 0 AS lacks FROM with_validation
)
SELECT owner,
       validation - CASE WHEN lacks AND train < validation THEN 1 ELSE 0 END AS validation,
       CASE WHEN lacks THEN 1 ELSE test END AS test
FROM for_test
"""

SIDES = """
SELECT text, CASE WHEN rank <= test THEN 'test'
                  WHEN rank <= test + validation THEN 'validation'
                  ELSE 'train' END
FROM ranked JOIN quotas USING (owner)
"""


def sides(
    rows: Sequence[tuple[str, str]], *, validation: float, test: float, seed: int
) -> dict[str, str]:
    """Normalised text → train, validation or test, for (text, label) rows.

    ValueError where a share is not a whole number of per cents.
    """
    percents = {"validation": percent(validation), "test": percent(test)}
    texts = [text for text, _ in rows]
    tickets = pa.table(
        {
            "text": pa.array([normalise(text) for text in texts], pa.string()),
            "place": pa.array(salted(text_ids(texts), seed), pa.uint64()),
            "label": pa.array([label for _, label in rows], pa.string()),
        }
    )
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.register("tickets", tickets)
        database.execute(RANKED)
        database.execute(ROUNDED, percents)
        database.execute(LIFTED, percents)
        return dict(database.execute(SIDES).fetchall())


def percent(share: float) -> int:
    found = round(share * 100)
    if abs(found - share * 100) > 1e-9:
        raise ValueError(f"the oracle counts in whole per cents, and {share} is none")
    return found
