"""Show what can be said here."""

from bot.kit.text import nearest
from bot.slack.context import Asked, Context, Reply
from bot.slack.views.blocks import quoted

USAGE = "help [word]"
ALIASES = ("?",)


def answer(asked: Asked, text: str) -> Reply:
    """All words, or one of them."""
    word = text.strip().lower()
    if word:
        told = [line for names, line in asked.guide if word in names]
        if told:
            return Reply(told[0])
        near = nearest(word, [name for names, _ in asked.guide for name in names])
        return Reply(
            f"There is no {quoted(word)}." + (f" Did you mean `{near}`?" if near else f" Say `{asked.word} help`.")
        )
    lines = "\n".join(line for _, line in asked.guide)
    return Reply(
        f"*What you can say*\n{lines}\n\nIn an incident's channel the word is about that incident; elsewhere name it "
        f"first: `{asked.word} resolve INC-3`. `{asked.word}` alone declares an incident, or shows the one you are in."
    )


async def run(context: Context, text: str) -> Reply:
    """The same for whoever asks the slow way."""
    return answer(Asked(context.person.id, context.channel, None, context.books, context.guide, context.word), text)
