"""How a post-mortem that was shared looks: a menu of the formats it can be had in."""

from bot.incidents.chat import Drafted
from bot.slack import ids
from bot.slack.views.blocks import Block, menu, option, section


def drafted(noun: Drafted) -> tuple[str, list[Block]]:
    """The menu below a draft."""
    text = f"Post-mortem of {noun.incident.reference}, revision {noun.revision}, in another format"
    about = f"{noun.incident.id}:{noun.revision}"
    options = [option(name, f"{about}:{name}") for name in noun.formats]
    return text, [section(f"{text}:", accessory=menu("Choose a format", ids.EXPORT_DOCUMENT, options))]
