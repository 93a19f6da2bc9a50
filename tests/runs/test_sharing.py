"""What a step made is shared once, under the message of its run, and a chat that refuses it fails no run."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.incidents.model import Incident
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs.model import RunFile, RunState
from bot.runs.sharing import Sharing
from bot.runs.show import Show
from bot.runs.step import File, StepResult
from tests.conftest import new_database
from tests.fakes.chat import FakeChat
from tests.runs.conftest import nothing_follows


@pytest.fixture(scope="module", params=["sqlite"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """These rules do not depend on the database; SQLite is the quicker one."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


@pytest.fixture
async def chat(bench):
    async with bench.engine.transaction() as tx:
        await tx.session.execute(
            sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(channel=bench.book)
        )
    return FakeChat()


@pytest.fixture
def sharing(bench, chat):
    return Sharing(bench.engine, nothing_follows, chat, utc_now)


async def made(bench, chat, *files: File, shown: bool = True) -> list[RunFile]:
    """The files of a run that has ended."""
    bench.plugin("look", StepResult(ok=True, summary="fine", files=files))
    run_id = await bench.start("steps:\n  - look: {}\n")
    assert (await bench.carry_out(run_id)).state == RunState.SUCCEEDED
    if shown:
        await Show(bench.engine, nothing_follows, chat, utc_now, bench.interpreter()).show(run_id)
    return await kept(bench, run_id)


async def kept(bench, run_id: str) -> list[RunFile]:
    async with bench.engine.db.read() as session:
        query = sa.select(RunFile).where(col(RunFile.run_id) == run_id)
        return list(await session.scalars(query.order_by(col(RunFile.made_at), col(RunFile.id))))


async def test_a_file_is_shared_below_the_message_of_its_run_and_its_content_let_go(bench, chat, sharing):
    [file] = await made(bench, chat, File("graph.png", b"png", title="Errors"))
    for _ in range(2):
        await sharing.share(file.id)

    [(ts, _)] = chat.messages[bench.book].items()
    [upload] = chat.uploads[bench.book]
    assert (upload.name, upload.content, upload.title, upload.thread) == ("run-1-graph.png", b"png", "Errors", ts)
    [file] = await kept(bench, file.run_id)
    assert file.content is None
    assert file.shared_at is not None
    assert file.size == 3


async def test_two_files_of_one_name_get_names_of_their_own_and_odd_names_are_made_plain(bench, chat, sharing):
    names = ("out.txt", "out.txt", "../../etc/out.txt", "a/b\n.tar", "x" * 300 + ".log")
    for file in await made(bench, chat, *(File(name, b"text") for name in names)):
        await sharing.share(file.id)

    shared = [upload.name for upload in chat.uploads[bench.book]]

    assert len(set(shared)) == 5
    assert all(len(name) < 120 and "/" not in name and "\n" not in name for name in shared)


async def test_an_upload_whose_answer_was_lost_is_found_and_not_made_twice(bench, chat, sharing):
    [file] = await made(bench, chat, File("a.txt", b"text"))

    class Lost(FakeChat):
        async def upload(self, channel, upload):
            await super().upload(channel, upload)
            raise TemporaryError("no answer")

    lost = Lost(uploads=chat.uploads)
    with pytest.raises(TemporaryError):
        await Sharing(bench.engine, nothing_follows, lost, utc_now).share(file.id)
    await sharing.share(file.id)

    assert len(chat.uploads[bench.book]) == 1
    assert (await kept(bench, file.run_id))[0].content is None


async def test_a_file_that_the_chat_refuses_is_told_and_kept_and_fails_no_run(bench, chat, sharing):
    [file] = await made(bench, chat, File("a.txt", b"text"))
    chat.faults["upload"] = [PermanentError("Slack refused it: file_uploads_disabled")]
    await sharing.share(file.id)

    [told] = await bench.events("run.file_refused")
    assert told.text == "Run 1: a.txt could not be shared: Slack refused it: file_uploads_disabled"
    assert (await kept(bench, file.run_id))[0].content == b"text"
    assert (await bench.run(file.run_id)).state == RunState.SUCCEEDED


async def test_an_empty_file_is_not_even_tried(bench, chat, sharing):
    [file] = await made(bench, chat, File("a.txt", b""))
    await sharing.share(file.id)

    assert chat.uploads == {}
    assert (await bench.events("run.file_refused"))[0].text.endswith("it is empty")


async def test_a_file_waits_for_the_message_it_belongs_under_and_goes_into_the_channel_where_there_is_none(
    bench, chat, sharing
):
    [file] = await made(bench, chat, File("a.txt", b"text"), shown=False)
    with pytest.raises(TemporaryError):
        await sharing.share(file.id)
    chat.faults["post"] = [PermanentError("restricted_action")]
    await Show(bench.engine, nothing_follows, chat, utc_now, bench.interpreter()).show(file.run_id)

    await sharing.share(file.id)

    assert chat.uploads[bench.book][0].thread is None


async def test_without_a_channel_a_file_waits_for_one(bench, chat, sharing):
    [file] = await made(bench, chat, File("a.txt", b"text"))
    async with bench.engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(channel=None))
    await asyncio.gather(sharing.share(file.id), sharing.share("0" * 32))

    assert chat.uploads == {}
