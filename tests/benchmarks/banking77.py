"""BANKING77 from Parquet to HTTP through submitted jobs, and whether all ways to ask agree.

    python -m tests.benchmarks.banking77 --data FOLDER --work NEW_FOLDER

FOLDER holds train.parquet and test.parquet with the columns text and label. Needs a cluster that
`python -m cluster.local up` started. The settings are the defaults; nothing is chosen on test
rows. Prints the figures for BENCHMARKS.md, and as its last line one JSON object.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

KEY = "sy_benchmark-key"
PORT = 8077


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    data, work = asked.data.absolute(), asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / "keys.txt").write_text(KEY + "\n")
    seconds: dict[str, float] = {}
    for name, words in steps(data, work).items():
        if not (work / name).exists() or name == "endpoint":
            seconds[name] = run(words)
    metrics = json.loads((work / "test" / "metrics.json").read_text())
    result = {"seconds": seconds, **headline(metrics), **one_truth(work)}
    table(metrics)
    print(json.dumps(result))


def steps(data: Path, work: Path) -> dict[str, list[str]]:
    return {
        "prepared": ["jobs.prepare", "--source", f"{data}/train.parquet",
                     "--test-source", f"{data}/test.parquet", "--split.validation", "0.05",
                     "--output", f"{work}/prepared"],
        "run": ["jobs.train", "--data", f"{work}/prepared", "--output", f"{work}/run",
                "--model.name", "minilm"],
        "test": ["jobs.evaluate", "--bundle", f"{work}/run/bundle",
                 "--source", f"{work}/prepared/test", "--output", f"{work}/test"],
        "endpoint": ["serve.deploy", "--bundle", f"{work}/run/bundle", "--port", str(PORT),
                     "--keys", f"{work}/keys.txt"],
    }  # fmt: skip


def run(words: list[str]) -> float:
    """Seconds of one submitted job, from the command to its end."""
    began = time.monotonic()
    command = [sys.executable, "-m", "cluster.submit", "--", "python", "-m", *words]
    subprocess.run(command, check=True)
    return round(time.monotonic() - began, 1)


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    kept = ("rows", "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "calibration_error")
    return {name: metrics[name] for name in kept}


def table(metrics: dict[str, Any]) -> None:
    print(f"\n{'':<40} accuracy  macro-F1")
    for name, row in [("fine-tuned", metrics), *metrics["baselines"].items()]:
        print(f"{name:<40} {row['accuracy']:>8.4f}  {row['macro_f1']:>8.4f}")


def one_truth(work: Path) -> dict[str, Any]:
    """How the endpoint and plain transformers compare with predictions.parquet."""
    judged = pq.read_table(work / "test" / "predictions.parquet").to_pydict()
    served = [a for k in range(0, len(judged["text"]), 64) for a in ask(judged["text"][k : k + 64])]
    plain_labels, plain_scores = plain(work / "run" / "bundle", judged["text"])
    scores = np.array(judged["score"])
    return {
        "endpoint_other_labels": sum(
            a["label"] != p for a, p in zip(served, judged["predicted"], strict=True)
        ),
        "endpoint_largest_score_gap": float(
            np.abs(np.array([a["score"] for a in served]) - scores).max()
        ),
        "transformers_other_labels": sum(
            a != p for a, p in zip(plain_labels, judged["predicted"], strict=True)
        ),
        "transformers_largest_score_gap": float(np.abs(plain_scores - scores).max()),
    }


def ask(texts: list[str]) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/classify",
        json.dumps({"texts": texts}).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        found: list[dict[str, Any]] = json.load(reply)["predictions"]
    return found


def plain(folder: Path, texts: list[str]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Labels and their scores as plain transformers gives them, the decision offset taken out."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    offset = torch.tensor(json.loads((folder / "bundle.json").read_text())["decision_offset"])
    labels: list[str] = []
    scores: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            inputs = tokenizer(
                texts[start : start + 64], truncation=True, padding=True, return_tensors="pt"
            )
            logits = model(**inputs).logits
            chosen = logits.argmax(dim=-1)
            labels += [model.config.id2label[int(c)] for c in chosen]
            # The offset decides the label and is no part of the score.
            found = torch.softmax(logits - offset, dim=-1).gather(1, chosen.unsqueeze(1))
            scores += found.squeeze(1).tolist()
    return labels, np.array(scores)


if __name__ == "__main__":
    main()
