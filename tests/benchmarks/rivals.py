"""The sides of `tests.benchmarks.data`: our steps, and what others do for the same.

Each runs in a process of its own that holds two CPUs. A side first warms up, and gives back the
work that is timed; what the work returns is added to its line in the results.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks import source

CPUS = 2
BATCH = 8192
REPEATS = 3
WARM_ROWS = 1000
MAX_TOKENS = 128

Work = Callable[[], dict[str, Any]]


def tickets(folder: Path, rows: int) -> Path:
    return folder / f"source-{rows}"


def make_source(folder: Path, rows: int) -> Work:
    def work() -> dict[str, Any]:
        source.write(tickets(folder, rows), rows)
        return {}

    return work


def prepare(folder: Path, rows: int) -> Work:
    """The rows' part of `jobs.prepare`: all that the rivals do, and conflicts and rejected rows
    written, but not the figures of the report. Ray is up and has prepared a thousand rows."""
    from jobs.preparation import prepare
    from jobs.preparer import Prepare, request_of

    warm_up(folder)
    output = empty(folder / "prepared")
    output.mkdir()

    def work() -> dict[str, Any]:
        asked = Prepare(source=str(tickets(folder, rows)), output=str(output))
        manifest, _ = prepare(request_of(asked), str(output))
        counts = manifest["labels"].values()
        return {
            split: sum(label[split]["rows"] for label in counts)
            for split in ("train", "validation", "test")
        }

    return work


def warm_up(folder: Path) -> None:
    """Ray's workers started, and what a prepare needs imported in them."""
    from jobs import sources
    from jobs.preparer import Prepare, prepare

    tiny, output = start_ray(folder), empty(folder / "warm-prepared")
    most, sources.CHUNK_ROWS = sources.CHUNK_ROWS, 1
    for file in tiny.iterdir():  # something to do for every worker
        pq.write_table(pq.read_table(file), file, row_group_size=WARM_ROWS // 10)
    prepare(Prepare(source=str(tiny), output=str(output)))
    sources.CHUNK_ROWS = most


def start_ray(folder: Path) -> Path:
    """Starts Ray; a source of WARM_ROWS rows to try it on."""
    from cluster import session

    session.connect(cpus=CPUS)
    session.streaming_context()
    tiny = empty(folder / "warm-source")
    source.write(tiny, WARM_ROWS)
    return tiny


def ray_split(folder: Path, rows: int) -> Work:
    """Ray's own stratified split. Less work than ours, all to its favour: texts that stand there
    several times are not found out, two sides are made and not three, and no ids are kept."""
    split_by_ray(start_ray(folder), empty(folder / "warm-ray"))
    output = empty(folder / "ray")
    return lambda: split_by_ray(tickets(folder, rows), output)


def split_by_ray(folder: Path, output: Path) -> dict[str, Any]:
    import ray

    usable = ray.data.read_parquet(str(folder)).map_batches(
        normalised, batch_format="pyarrow", batch_size=None
    )
    for side, part in zip(
        ("train", "test"), usable.train_test_split(0.2, stratify="label"), strict=True
    ):
        part.write_parquet(str(output / side))
    return {side: rows_below(output / side) for side in ("train", "test")}


def normalised(table: pa.Table) -> pa.Table:
    """Rows that have a text, in NFC and with white space folded, by Arrow's kernels."""
    table = table.filter(pc.is_valid(table["text"]))
    words = pc.utf8_split_whitespace(
        pc.utf8_trim_whitespace(pc.utf8_normalize(table["text"], "NFC"))
    )
    return table.set_column(
        table.schema.get_field_index("text"), "text", pc.binary_join(words, " ")
    )


def duckdb(folder: Path, rows: int) -> Work:
    """All of our work in one process of DuckDB: the floor."""
    return split_by_duckdb(folder, rows, GUARDED)


def duckdb_plain(folder: Path, rows: int) -> Work:
    """The same, with the text normalised as one writes it down at first."""
    return split_by_duckdb(folder, rows, PLAIN)


SPACE = r"[\s\pZ\x0B\x1C-\x1F\x{85}]"
PLAIN = rf"trim(regexp_replace(nfc_normalize(text), '{SPACE}+', ' ', 'g'))"
# Characters below U+0300 are NFC as they are; most texts have no white space to be folded.
GUARDED = rf"""
CASE WHEN regexp_matches(text, '[^\x{{0}}-\x{{2FF}}]|[\t-\r\x1C-\x1F\x{{85}}]|\pZ\pZ|[^ \PZ]|^ | $')
     THEN {PLAIN} ELSE text END
"""
SPLIT = """
CREATE TABLE tickets AS
    SELECT text, label, CASE WHEN normal <> '' THEN hash(normal) END AS text_id
    FROM (SELECT text, label, {normal} AS normal FROM read_parquet('{source}/*.parquet'));
CREATE TABLE votes AS
    SELECT text_id, label, count(*) AS votes FROM tickets
    WHERE text_id IS NOT NULL AND label IS NOT NULL GROUP BY ALL;
CREATE TABLE sides AS
    WITH owners AS (
        SELECT text_id, label AS owner FROM votes
        QUALIFY row_number() OVER (PARTITION BY text_id ORDER BY votes DESC, label) = 1
    ), ranked AS (
        SELECT text_id, count(*) OVER (PARTITION BY owner) AS texts,
               row_number() OVER (PARTITION BY owner ORDER BY hash(text_id)) AS rank
        FROM owners
    ), quotas AS (
        SELECT text_id, rank,
               CASE WHEN texts < 3 THEN 0 ELSE greatest(1, round(texts * 0.1)) END AS quota
        FROM ranked
    )
    SELECT text_id, CASE WHEN rank <= quota THEN 'test'
                         WHEN rank <= 2 * quota THEN 'validation' ELSE 'train' END AS side
    FROM quotas;
COPY (SELECT text, label FROM tickets WHERE text_id IS NULL OR label IS NULL)
    TO '{output}/rejected.parquet' (FORMAT parquet, COMPRESSION zstd);
COPY (SELECT first(text) AS text, label, count(*) AS rows FROM tickets
      WHERE text_id IN (SELECT text_id FROM votes GROUP BY text_id HAVING count(*) > 1)
      GROUP BY text_id, label)
    TO '{output}/conflicts.parquet' (FORMAT parquet, COMPRESSION zstd);
"""
WRITE = """
COPY (SELECT text, label, text_id FROM tickets JOIN sides USING (text_id)
      WHERE side = '{side}' AND label IS NOT NULL)
    TO '{output}/{side}.parquet' (FORMAT parquet, COMPRESSION zstd);
"""


def split_by_duckdb(folder: Path, rows: int, normal: str) -> Work:
    import duckdb

    settings = {"threads": CPUS, "memory_limit": "16GB", "preserve_insertion_order": False}
    database = duckdb.connect(
        ":memory:", config={**settings, "temp_directory": str(empty(folder / "duckdb-spilled"))}
    )
    database.execute("SELECT nfc_normalize('e\u0301')").fetchall()
    output = empty(folder / "duckdb")
    output.mkdir()
    sides = ("train", "validation", "test")

    def work() -> dict[str, Any]:
        places = {"source": tickets(folder, rows), "output": output}
        database.execute(SPLIT.format(normal=normal, **places))
        for side in sides:
            database.execute(WRITE.format(side=side, **places))
        return {side: rows_below(output / f"{side}.parquet") for side in (*sides, "rejected")}

    return work


def tokens(folder: Path, rows: int) -> Work:
    """Rows per second and core: the bare tokenizer on one thread against the token store.

    Taken in turns, the median of each; the store's time is that of both cores, its reading and
    writing and the start of its workers included.
    """
    from jobs.classifier.encoding import Encoder
    from jobs.classifier.network import model_folder
    from jobs.prepared import open_prepared
    from jobs.preparer import Prepare, prepare

    warm_up(folder)
    # Of this process alone: Ray's workers have started.
    os.environ["RAYON_NUM_THREADS"] = "1"
    place = empty(folder / "prepared-tokens")
    prepare(Prepare(source=str(tickets(folder, rows)), output=str(place)))
    model = model_folder("minilm")
    encoder = Encoder(model, MAX_TOKENS)
    texts = pq.read_table(place / "train", columns=["text"])["text"].to_pylist()
    store(open_prepared(str(folder / "warm-prepared")), model)

    def bare() -> int:
        parts = (texts[k : k + BATCH] for k in range(0, len(texts), BATCH))
        return sum(int(encoder.encode(part).lengths.sum()) for part in parts)

    def work() -> dict[str, Any]:
        seconds: dict[str, list[float]] = {"bare": [], "store": []}
        for _ in range(REPEATS):
            began = time.monotonic()
            found = bare()
            seconds["bare"].append(time.monotonic() - began)
            began = time.monotonic()
            store(open_prepared(str(place)), model)
            seconds["store"].append(time.monotonic() - began)
            shutil.rmtree(place / ".tokens")
        return {
            "texts": len(texts),
            "tokens_per_text": round(found / len(texts), 1),
            "bare_rate": round(len(texts) / statistics.median(seconds["bare"])),
            "store_rate": round(len(texts) / statistics.median(seconds["store"]) / CPUS),
            "each": {side: np.round(values, 2).tolist() for side, values in seconds.items()},
        }

    return work


def store(prepared: Any, model: Path) -> None:
    """Makes the token store of the training rows."""
    from jobs.tokens import ensure

    ensure(prepared, "train", model, MAX_TOKENS)


def empty(place: Path) -> Path:
    """A place where there is nothing, whatever an interrupted run left."""
    shutil.rmtree(place, ignore_errors=True)
    return place


def rows_below(place: Path) -> int:
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    return sum(pq.read_metadata(file).num_rows for file in files)


SIDES: dict[str, Callable[[Path, int], Work]] = {
    "source": make_source,
    "prepare": prepare,
    "ray-split": ray_split,
    "duckdb": duckdb,
    "duckdb-plain": duckdb_plain,
    "tokens": tokens,
}
