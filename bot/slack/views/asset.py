"""Assets as people read them: whose they are, and what runs said of them last."""

from collections.abc import Sequence

from bot.runs.assets import Looked
from bot.runs.model import AssetReport
from bot.slack.views.blocks import Block, bounded, context, moment, paragraphs, safe, section

Drawn = tuple[str, list[Block]]

SHOWN, RESULTS = 60, 6
MARKS = {True: ":white_check_mark:", False: ":x:", None: ":grey_question:"}


def listing(found: Sequence[Looked], *, about: str = "") -> Drawn:
    """One to a line, those first with which something is wrong."""
    head = f"{len(found)} asset{'' if len(found) == 1 else 's'}" + (f": {safe(about, 60)}" if about else "")
    if not found:
        text = f"{head}. `assets` in catalog.yaml lists them, and `reports` of runbooks says how they are."
        return text, [section(text)]
    shown = sorted(found, key=lambda one: (not one.bad, one.name))
    blocks = [section(f"*{head}*"), *paragraphs([line(one) for one in shown[:SHOWN]])]
    if len(shown) > SHOWN:
        blocks.append(context(f"and {len(shown) - SHOWN} more; name a service, a kind, or `bad`"))
    return head, bounded(blocks)


def line(one: Looked) -> str:
    """An asset with its owner and what was said of it last."""
    about = [] if one.asset is None else [one.asset.kind, one.asset.service or "", one.asset.owner or ""]
    told = [safe(part, 60) for part in about if part] or ["not in catalog.yaml"]
    results = [_result(report) for report in one.reports[:RESULTS]] or ["nothing reported yet"]
    return f"• *{safe(one.name, 100)}* {' · '.join(told)}\n    {'; '.join(results)}"


def _result(report: AssetReport) -> str:
    text = f" {safe(report.text, 120)}" if report.text else ""
    return f"{MARKS[report.ok]} {safe(report.kind, 30)} {moment(report.at)}{text}"
