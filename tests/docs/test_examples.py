"""What documentation and README show is run as it stands there."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


def examples_of(page: Path) -> str:
    """All Python of a page, as one script: later blocks use what earlier ones defined."""
    return "\n".join(textwrap.dedent(found["code"]) for found in BLOCK.finditer(page.read_text()))


PAGES = sorted(
    page.relative_to(ROOT)
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if examples_of(page)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_examples_of_a_page_run_without_a_warning(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "examples.py"
    script.write_text(examples_of(ROOT / page))

    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=os.environ | {"TEST_COORDINATOR_ADAPTER_IN_MEMORY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
