"""Shows that the linter takes time in proportion to the text: twice the text, twice the time, whatever the text is.

python -m bench.lint
"""

import random
import sys
import time

from bot.postmortems.lint import lint
from bot.postmortems.rules import rules

SIZE = 100_000
ROUNDS = 3


def hostile() -> dict[str, str]:
    """Texts made to hurt, each of at least `SIZE` characters when it is repeated."""
    known = rules()
    words = sorted(known.index)
    chance = random.Random(1)
    busiest = sorted(words, key=lambda word: -len(known.index[word]))[:12]
    return {
        "one word": "word-",
        "the busiest words": " ".join(busiest) + " ",
        "any words that begin a rule": " ".join(chance.choice(words) for _ in range(20_000)) + " ",
        "a verdict in each sentence": "The team should have checked. ",
        "a subject without end": "the engineer and ",
        "quotation marks": '"',
        "backticks": "` ",
        "tags": "<a",
        "comments that never end": "<!-- ",
        "comments that take back": "They should have known. <!-- lint-ok CF01: x -->\n",
        "rows of a table": "|a|\n",
        "headings": "# a\n",
        "actions": "## Actions\n- do it\n",
        "times": "from 14:02 to 15:03 ",
        "secrets": "password=xoxb-eyJ",
        "front matter": "---\na: b\n",
    }


def seconds(text: str) -> float:
    """The processor's time for one reading, the best of some."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        lint(text)
        best = min(best, time.process_time() - began)
    return best


def main() -> None:
    began = time.process_time()
    rules()
    print(f"{'reading the rules':30} {time.process_time() - began:6.2f} s")
    slow = []
    for name, piece in hostile().items():
        text = (piece * (SIZE // len(piece) + 1))[:SIZE]
        once, twice = seconds(text), seconds(text * 2)
        print(f"{name:30} {once:6.2f} s   twice the text: {twice / once:4.1f} times as long")
        if once > 1 or twice / once > 3:
            slow.append(name)
    if slow:
        sys.exit(f"slower than they should be: {', '.join(slow)}")


if __name__ == "__main__":
    main()
