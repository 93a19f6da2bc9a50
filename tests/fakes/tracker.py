"""An issue tracker in memory: keeps what it was asked, and fails as a test plans it."""

from dataclasses import dataclass, field, replace

from bot.incidents.tracker import Gone, Issue, Move, Wish


@dataclass
class FakeTracker:
    """Implements `bot.incidents.tracker.Tracker`. *faults* are the errors of the next calls, by method."""

    issues: dict[str, Issue] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    comments: list[tuple[str, str, str]] = field(default_factory=list)
    moves: list[tuple[str, Move]] = field(default_factory=list)
    ranks: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, str, bytes]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    faults: dict[str, list[Exception]] = field(default_factory=dict)

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if faults := self.faults.get(method):
            raise faults.pop(0)

    async def create(self, wish: Wish) -> Issue:
        self._called("create")
        for n, known in enumerate(self.wishes, 1):
            if known.key == wish.key:
                return self.issues[str(n)]
        self.wishes.append(wish)
        n = len(self.wishes)
        self.issues[str(n)] = Issue(str(n), f"T-{n}", f"https://t.example.com/T-{n}", "Open", False, wish.title)
        return self.issues[str(n)]

    async def find(self, text: str) -> Issue:
        self._called("find")
        for issue in self.issues.values():
            if text in (issue.reference, issue.url):
                return issue
        raise Gone(f"there is no {text}")

    async def read(self, id_: str) -> Issue:
        self._called("read")
        if id_ not in self.issues:
            raise Gone("it is not there")
        return self.issues[id_]

    async def move(self, id_: str, move: Move) -> Issue:
        self._called("move")
        self.moves.append((id_, move))
        self.set(id_, move.status or ("Closed" if move.done else "Open"), move.done)
        return self.issues[id_]

    async def rank(self, id_: str, severity: str) -> None:
        self._called("rank")
        self.ranks.append((id_, severity))

    async def comment(self, id_: str, text: str, key: str) -> None:
        self._called("comment")
        if not any(known == key for _, _, known in self.comments):
            self.comments.append((id_, text, key))

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        self._called("attach")
        self.files.append((id_, name, content))

    def set(self, id_: str, status: str, done: bool) -> None:
        """Somebody moved it."""
        self.issues[id_] = replace(self.issues[id_], status=status, done=done)


@dataclass
class ChangingTracker(FakeTracker):
    """One that has change requests: `bot.incidents.tracker.Changes`. *verdicts* are the next looks at the approval."""

    verdicts: list[bool | None] = field(default_factory=list)
    proposed: list[tuple[Wish, str]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    concluded: list[tuple[str, bool, str]] = field(default_factory=list)

    async def propose(self, wish: Wish, kind: str) -> Issue:
        self._called("propose")
        if all(known.key != wish.key for known, _ in self.proposed):
            self.proposed.append((wish, kind))
        return Issue("c1", "CHG1", "https://t.example.com/CHG1", "Assess", False)

    async def verdict(self, id_: str) -> bool | None:
        self._called("verdict")
        return self.verdicts.pop(0) if self.verdicts else None

    async def begin(self, id_: str) -> None:
        self._called("begin")
        self.begun.append(id_)

    async def conclude(self, id_: str, key: str, *, ok: bool, note: str) -> Issue:
        self._called("conclude")
        self.concluded.append((id_, ok, note))
        return Issue("c1", "CHG1", "https://t.example.com/CHG1", "Closed", True)
