async def test_a(app, sandbox, client):
    @app.command("/inc")
    async def inc(ack, command, client, respond):
        await client.views_open(trigger_id=command["trigger_id"], view={"type":"modal","callback_id":"cb","title":{"type":"plain_text","text":"T"},"submit":{"type":"plain_text","text":"Go"},"blocks":[{"type":"input","block_id":"name","label":{"type":"plain_text","text":"Name"},"element":{"type":"plain_text_input","action_id":"v"}}]})
        await ack(f"hello {command['text']}")
        await respond("again")
    @app.view("cb")
    async def cb(ack, view, client):
        await ack()
        print(view["state"])
        r = await client.conversations_create(name="inc-1")
        await client.conversations_invite(channel=r["channel"]["id"], users=["U01ALICE"])
        await client.chat_postMessage(channel=r["channel"]["id"], text="card", blocks=[{"type":"section","text":{"type":"mrkdwn","text":"*hi*"},"accessory":{"type":"button","text":{"type":"plain_text","text":"Press"},"action_id":"press","value":"1"}}])
    seen=[]
    @app.action("press")
    async def press(ack, body, client):
        await ack()
        await client.chat_update(channel=body["channel"]["id"], ts=body["message"]["ts"], text="pressed")
    @app.event("message")
    async def msg(event):
        seen.append(event)
    alice = sandbox.actor("alice")
    r = await alice.slash("/inc help @bob", "#incidents")
    print(r.ack, r.ms, r.error, r.text)
    m = await alice.modal()
    res = await alice.fill(m, name="xx")
    print(res)
    msg_ = await sandbox.expect_message("inc-*", "hi")
    r = await alice.click(msg_, "Press")
    await sandbox.expect_message("inc-*", "pressed")
    await alice.say("#inc-1", "hello & @bob")
    await sandbox.wait(lambda: any("&amp;" in (e.get("text") or "") for e in seen), 2, "event")
    await alice.expect("again")
    print(await client.files_upload_v2(channel=msg_.channel, content="abc", filename="a.md", title="A"))
    sandbox.assert_no_violations()
    assert 0
