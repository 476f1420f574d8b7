"""What Ray is given and brings back, without a Ray: refusals, shared directories, archives of others."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest

from reports.read.campaign import read_campaign, write_attempt
from reports.record.campaign import ATTEMPT_FILE, Attempt
from tests.guards import guards
from tests.validator.campaign.jobs import made
from validator.campaign import onray, process
from validator.campaign.onray import Given, OnRay, packed, run_attempt, unpacked
from validator.errors import ConfigError


def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Given]:
    """An attempt at a job that leaves one file where it is told to."""
    code = "import sys; open(sys.argv[3] + '/left.txt', 'w').write(sys.argv[4]); print('said')"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-S", "-E", "-c", code))
    campaign = made(tmp_path / "c", 1)
    directory = campaign.path / "jobs" / "0000-1"
    directory.mkdir(parents=True)
    write_attempt(campaign.path, Attempt(0, 1))
    words = ("conformance", "--out", str(directory), "more")
    return directory, Given(words, str(directory), (directory / ATTEMPT_FILE).read_bytes(), str(tmp_path), 1, 1, 0.0)


def test_where_the_directory_is_shared_a_job_writes_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory, about = given(tmp_path, monkeypatch)
    brought = run_attempt(about)
    assert (brought.archive, brought.end[:2]) == (b"", ("judged", 0))
    assert (directory / "left.txt").read_text() == "more"


@guards("validator/campaign/onray.py", "shared = (here / ATTEMPT_FILE).read_bytes() == given.record", "shared = True")
def test_where_it_is_not_the_job_comes_back_as_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory, about = given(tmp_path, monkeypatch)
    brought = run_attempt(about._replace(record=b"of another machine's directory of the same name"))
    assert not (directory / "left.txt").exists()
    unpacked(brought.archive, brought.digest, directory)
    assert (directory / "left.txt").read_text() == "more"
    assert (directory / "log.txt").read_text() == "said\n"
    assert read_campaign(tmp_path / "c").problems == []


@guards("validator/campaign/onray.py", "    if _digest(archive) != digest:\n", "    if False:\n")
def test_an_archive_that_arrives_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("content")
    archive = packed(tmp_path / "a")
    with pytest.raises(ValueError, match="arrived damaged"):
        unpacked(archive, "0" * 32, tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "link"])
@guards("validator/campaign/onray.py", 'if name.is_absolute() or ".." in name.parts or not', "if not")
def test_an_archive_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member, io.BytesIO(b""))
    data = written.getvalue()
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="no file of its own"):
        unpacked(data, onray._digest(data), tmp_path / "in")
    assert not (tmp_path / "outside").exists()


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"not installed; run: pip install 'kv-lockstep\[ray\]'"):
        OnRay("", 1, 0, 0.0)


@pytest.mark.parametrize("address", ["here", "ray://here:1", "here:port", "here:99999", ":1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected host:port"):
        onray._answers(address)


def test_an_address_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no answer .*ray start --head"):
        onray._answers("127.0.0.1:9")

    def silent(*args: object, timeout: float) -> None:
        assert timeout == 15
        raise TimeoutError("timed out")

    monkeypatch.setattr(onray.socket, "create_connection", silent)
    with pytest.raises(ConfigError, match="no answer within 15 s"):
        onray._answers("10.255.255.1:6379")


@pytest.mark.parametrize(("cpus", "gpus"), [(0, 0), (-1, 0), (1, -1)])
def test_cores_that_can_not_be_are_refused(cpus: float, gpus: float) -> None:
    with pytest.raises(ConfigError, match="more than 0 cores"):
        OnRay("", cpus, gpus, 0.0)
