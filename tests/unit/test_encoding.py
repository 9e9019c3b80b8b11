"""From text to token ids, and to padded arrays."""

import json
import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.encoding import Encoder, grid, pad
from tests.unit.memory import STEADY

CLS, SEP = 2, 3


def test_a_text_stands_between_the_special_tokens(encoder: Encoder, tiny_model: Path) -> None:
    vocabulary = json.loads((tiny_model / "tokenizer.json").read_text())["model"]["vocab"]
    found = encoder.encode(["My VPN is down", ""])
    expected = [CLS, *(vocabulary[word] for word in ("my", "vpn", "is", "down")), SEP]
    assert [ids.tolist() for ids in found.tokens] == [expected, [CLS, SEP]]
    assert {ids.dtype for ids in found.tokens} == {np.dtype(np.int32)}
    assert found.lengths.tolist() == [6, 2]
    assert found.truncated.tolist() == [False, False]


def test_a_text_that_just_fits_is_whole_and_one_token_more_is_cut_and_flagged(
    encoder: Encoder,
) -> None:
    found = encoder.encode([" ".join(["mail"] * words) for words in (6, 7, 500)])
    assert found.lengths.tolist() == [8, 8, 8]
    assert found.truncated.tolist() == [False, True, True]
    assert found.tokens[1].tolist() == found.tokens[0].tolist()
    assert found.tokens[2][-1] == SEP


def test_tokens_are_those_of_a_plain_transformers_tokenizer(
    encoder: Encoder, tiny_model: Path
) -> None:
    from transformers import AutoTokenizer

    texts = ["my printer is slow and the paper is not", "Wörter", "支付 a", "a\n\n  b\tc", "!?"]
    plain = AutoTokenizer.from_pretrained(str(tiny_model))(texts, truncation=True, max_length=8)
    assert [ids.tolist() for ids in encoder.encode(texts).tokens] == plain["input_ids"]


def test_a_broken_surrogate_is_read_as_a_question_mark(encoder: Encoder) -> None:
    broken, mended = encoder.encode(["vpn \ud800 down", "vpn ? down"]).tokens
    assert broken.tolist() == mended.tolist()


def test_no_texts_give_no_tokens(encoder: Encoder) -> None:
    found = encoder.encode([])
    assert found.tokens == []
    assert found.truncated.shape == found.lengths.shape == (0,)


def test_what_the_file_says_about_padding_and_truncation_is_put_aside(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    file = json.loads((folder / "tokenizer.json").read_text())
    file["truncation"] = {
        "direction": "Left",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 1,
    }
    file["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (folder / "tokenizer.json").write_text(json.dumps(file))
    texts = ["my vpn is down please", "mail"]
    theirs, ours = (Encoder(path, 6).encode(texts) for path in (folder, tiny_model))
    assert theirs.lengths.tolist() == [6, 3]
    assert [t.tolist() for t in theirs.tokens] == [t.tolist() for t in ours.tokens]


def test_the_grid_has_every_width_up_to_32_and_16_for_each_doubling_above() -> None:
    widths = {length: grid(length) for length in (1, 5, 31, 32, 33, 63, 64, 65, 81, 128, 129, 512)}
    assert widths == {
        1: 1,
        5: 5,
        31: 31,
        32: 32,
        33: 34,
        63: 64,
        64: 64,
        65: 68,
        81: 84,
        128: 128,
        129: 136,
        512: 512,
    }
    all_widths = [grid(length) for length in range(1, 513)]
    assert all_widths == sorted(all_widths)
    assert len(set(all_widths)) == 32 + 4 * 16


@STEADY
@given(st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=70), min_size=1, max_size=6))
def test_padding_keeps_every_token_and_masks_the_rest(rows: list[list[int]]) -> None:
    ids, mask = pad([np.array(row, dtype=np.int32) for row in rows], pad_id=7)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (len(rows), grid(max(map(len, rows))))
    for row, (found, real) in enumerate(zip(ids, mask, strict=True)):
        length = len(rows[row])
        assert found.tolist() == rows[row] + [7] * (len(found) - length)
        assert real.tolist() == [1] * length + [0] * (len(found) - length)
