"""What the tests of storage and of publishing share: folders written and read as plain names and
texts, and the bucket that the fixture `bucket` plays."""

from pathlib import Path

BUCKET = "s3://bucket"


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
