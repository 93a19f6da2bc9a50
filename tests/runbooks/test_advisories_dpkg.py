"""The order of versions is that of dpkg, asked about whatever looks like a version."""

import runpy
import subprocess

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.runbooks.conftest import SCRIPTS

compare = runpy.run_path(str(SCRIPTS / "advisories.py"))["compare"]
versions = st.builds(
    lambda epoch, head, rest, revision: f"{epoch}{head}{rest}{revision}",
    st.sampled_from(["", "0:", "1:", "12:"]),
    st.sampled_from("0123456789"),
    st.text("0129aAbzZ.+~", max_size=8),
    st.sampled_from(["", "-1", "-1~bpo1", "-0.1+deb12u1", "-a", "-"]).map(lambda text: text if text != "-" else ""),
)


def dpkg(one: str, relation: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0


@given(versions, versions)
@example("1.0~rc1-1", "1.0-1")
@example("1.0-1", "1.0-1~")
@example("1.0a", "1.0+")
@example("1.10", "1.9")
@example("1:0", "2")
@settings(max_examples=120, deadline=None)
def test_two_versions_stand_as_dpkg_has_them(one, other):
    found = compare(one, other)

    assert dpkg(one, "lt" if found < 0 else "gt" if found > 0 else "eq", other)
