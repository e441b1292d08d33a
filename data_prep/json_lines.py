"""JSON Lines from outside: gold labels, generated replies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import InputError


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``FILE, line N`` and the object of each line that is not blank.

    Raises InputError for a file that cannot be read and a line that is no JSON object, or that UTF-8 could not hold.
    """
    try:
        # Iteration splits at line feeds alone; splitlines would split inside of a text that holds U+2028.
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # what could not be sent is told before anything is
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number} is no JSON object; write one object a line.")
                yield f"{path}, line {number}", row
    except UnicodeEncodeError:
        raise InputError(f"{path}, line {number} holds half a character, a lone surrogate; write it whole.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}, line {number} is not JSON ({error}).") from None
