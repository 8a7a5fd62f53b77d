"""Models by their name on the Hub, from a Hub on this machine: whole, broken off, slow, damaged, refused, and gone."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tests.support.hub import Hub

import vitreous
from vitreous.errors import CheckpointError, DownloadFailed, StorageError, UserError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights import hub_requests, transfer
from vitreous.weights.conversion import convert
from vitreous.weights.hub import fetch
from vitreous.weights.hub_requests import Unreachable, choose_files
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder

NAME = "somebody/vit"


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.seen: list[tuple[int, int]] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    def phase(self, name: str) -> None:
        self.said.append(name)

    def progress(self, done: int, total: int, numbers: object) -> None:
        self.seen.append((done, total))


def small_model() -> ModelFolder:
    config = build_vit_config("mu/16", image=(32, 48), classes=3)
    return ModelFolder(create(config, seed=3), PreprocessConfig(size=(32, 48)), DecodeConfig(), ("cat", "dog", "emu"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    convert(small_model(), tmp_path / "timm", "timm")
    (tmp_path / "timm" / "README.md").write_text("# a card")
    (tmp_path / "timm" / "pytorch_model.bin").write_bytes(b"never needed" * 10_000)
    return tmp_path / "timm"


def size_of(weights: Path) -> int:
    return (weights / "model.safetensors").stat().st_size


def test_what_is_needed_comes_once_and_opens_offline_afterwards(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, heard = hub.add(NAME, weights, licence="mit"), Heard()
    folder, _ = open_model(NAME, listener=heard)
    assert f"downloading {NAME} from {hub.url}" in heard.said[0]
    assert "licence mit" in heard.said[0] and commit[:12] in heard.said[0]
    assert heard.seen and heard.seen[-1][0] == heard.seen[-1][1]
    fetched = {line.rpartition("/")[2] for line in hub.asked if line.startswith("HEAD")}
    assert fetched == {"config.json", "model.safetensors"}
    pixels = torch.randn(2, 3, 32, 48)
    assert torch.equal(folder.model(pixels), small_model().model.eval()(pixels))
    hub.asked.clear()
    heard.said.clear()
    assert fetch(NAME, heard).pinned_name == f"{NAME}@{commit}"
    assert heard.said == [] and not any("resolve" in line for line in hub.asked)
    hub.status = 500
    assert fetch(NAME, heard).commit == commit
    assert f"as it is in the cache, at commit {commit[:12]}, since the Hub answers 500" in heard.said[0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    for name in (NAME, f"{NAME}@{commit}", f"hf-hub:{NAME}", f"{NAME}@main"):
        assert open_model(name)[0].classes == ("cat", "dog", "emu")
    assert hub.asked == []


def test_a_commit_is_never_asked_for_twice_and_stays_when_the_repository_goes_on(hub: Hub, weights: Path) -> None:
    first = hub.add(NAME, weights)
    pinned = fetch(NAME).pinned_name
    assert pinned == f"{NAME}@{first}"
    document = (weights / "config.json").read_text().replace('"cat"', '"lynx"')
    (weights / "config.json").write_text(document)
    second = hub.add(NAME, weights)
    hub.asked.clear()
    assert open_model(pinned)[0].classes[0] == "cat"
    assert hub.asked == []
    assert fetch(NAME).commit == second != first
    assert open_model(NAME)[0].classes[0] == "lynx"
    assert sum("/cdn/" in line for line in hub.asked) == 0, "the weights are the same, and are not downloaded again"


def test_a_download_that_breaks_goes_on_where_it_was(hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    hub.add(NAME, weights)
    size = size_of(weights)
    hub.cut = [size // 3, *[0] * transfer.ATTEMPTS]
    with pytest.raises(
        DownloadFailed, match=r"model.safetensors of somebody/vit broke off at .* the same command continues"
    ):
        fetch(NAME)
    kept = list(Path(constants.HF_HUB_CACHE).rglob("*.vitreous.incomplete"))
    assert [file.stat().st_size for file in kept] == [size // 3]
    hub.cut = [size // 3]
    heard = Heard()
    folder = fetch(NAME, heard).folder
    assert (folder / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    assert list(Path(constants.HF_HUB_CACHE).rglob("*.vitreous.incomplete")) == []
    assert sum(line.startswith("GET /cdn/") for line in hub.asked) == (1 + transfer.ATTEMPTS) + 2


def test_a_server_without_ranges_sends_it_all_again(hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    hub.add(NAME, weights)
    hub.ranges, hub.cut = False, [size_of(weights) // 2]
    assert (fetch(NAME).folder / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()


def test_the_server_of_large_files_may_refuse(hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses expire, which says nothing of the token."""
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    hub.add(NAME, weights)
    hub.large_status = 403
    with pytest.raises(DownloadFailed, match=r"broke off at 0.0 of .* MB \(status 403\); the same command continues"):
        fetch(NAME)


def test_ctrl_c_keeps_what_came(hub: Hub, weights: Path) -> None:
    hub.add(NAME, weights)

    class Impatient(Heard):
        def progress(self, done: int, total: int, numbers: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, Impatient())
    assert fetch(NAME).folder.is_dir()


def test_a_damaged_file_is_thrown_away(hub: Hub, weights: Path) -> None:
    hub.add(NAME, weights)
    hub.damaged = True
    with pytest.raises(DownloadFailed, match="arrived damaged: its SHA-256 is not the Hub's"):
        fetch(NAME)
    assert [file for file in Path(constants.HF_HUB_CACHE).rglob("blobs/*") if file.stat().st_size > 10_000] == []
    hub.damaged = False
    assert fetch(NAME).folder.is_dir()


def test_tokens_open_what_is_private_and_are_shown_to_the_hub_alone(
    hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, weights, private=True)
    with pytest.raises(
        CheckpointError, match=r"no public repository of that name at http://.*; if it is private, give a token"
    ):
        fetch(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert fetch(NAME).folder.is_dir()
    assert hub.authorised_elsewhere == []


def test_the_token_of_a_login_is_used_too(hub: Hub, weights: Path) -> None:
    hub.add(NAME, weights, private=True)
    Path(constants.HF_TOKEN_PATH).write_text("hf_good")
    assert fetch(NAME).folder.is_dir()


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "is gated: accept its licence at http://127.0.0.1:.*/somebody/vit, then give that account's token"),
        ("hf_other", "is gated, and your token's account has no access: accept its licence at"),
        ("hf_wrong", "the Hub refuses your token for somebody/vit; give another"),
    ],
)
def test_a_gate_says_how_it_opens(
    token: str, said: str, hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, weights, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    one_line(CheckpointError, said, NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert fetch(NAME).folder.is_dir()


def one_line(kind: type[Exception], said: str, name: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        open_model(name)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError) == (caught.value.exit_code == 2)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (
            429,
            DownloadFailed,
            r"limits the number of requests \(429, for somebody/vit\); try again in 7 s, or give a token",
        ),
        (503, DownloadFailed, "the Hub answers 503 for somebody/vit; try again later, or set HF_ENDPOINT to a mirror"),
        (404, CheckpointError, "no public repository of that name"),
        (403, CheckpointError, "your token may not do this"),
    ],
)
def test_each_refusal_is_one_line(status: int, kind: type[Exception], said: str, hub: Hub) -> None:
    hub.status = status
    one_line(kind, said, NAME)


def test_what_is_not_there_is_one_line(hub: Hub, weights: Path, tmp_path: Path) -> None:
    hub.add(NAME, weights)
    one_line(CheckpointError, "there is no 'somebody/else' here, and no public repository", "somebody/else")
    one_line(CheckpointError, "the Hub's somebody/vit has no revision 'v2'", f"{NAME}@v2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("#")
    hub.add("somebody/empty", tmp_path / "empty")
    one_line(CheckpointError, r"holds no weights that vitreous reads \(it has README.md\)", "somebody/empty")
    one_line(CheckpointError, "no such model folder, .*: dinov2-x; did you mean 'dinov2-", "dinov2-x")


def test_no_network_is_known_within_seconds(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    one_line(Unreachable, "the Hub can't be reached for it at http://127.0.0.1:9 .*set HF_ENDPOINT to a mirror", NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "hf-mirror.com")
    one_line(CheckpointError, "HF_ENDPOINT is 'hf-mirror.com'; it must be an address", NAME)
    assert hub_requests.CONNECT <= 5


def test_a_silent_server_is_not_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.silent = 1.0
    one_line(Unreachable, r"can't be reached for it at .* \(no answer in time\)", NAME)


def test_a_slow_server_is_waited_for(hub: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, weights)
    hub.slow = 0.1
    assert fetch(NAME).folder.is_dir()


def test_whoever_is_no_hub_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.status = 200
    one_line(DownloadFailed, f"the server at {hub.url} is not a Hub", NAME)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_told(hub: Hub, weights: Path, tmp_path: Path) -> None:
    hub.add(NAME, weights)
    (tmp_path / "cache").mkdir(mode=0o500)
    one_line(StorageError, "can't be kept in the cache", NAME)


def test_a_cache_with_weights_alone_is_completed(hub: Hub, weights: Path) -> None:
    """Other libraries leave the weights without their configuration, which says mean, deviation and class names."""
    hub.add(NAME, weights)
    folder = fetch(NAME).folder
    (folder / "config.json").unlink()
    assert fetch(NAME, prefer_cache=True).folder == folder
    assert (folder / "config.json").exists()


def test_of_several_forms_the_safest_is_taken() -> None:
    pickled = ["pytorch_model.bin", "open_clip_pytorch_model.bin"]
    safe = ["model.safetensors", "open_clip_model.safetensors"]
    assert choose_files(["a.txt", "tokenizer.json", "config.json", *pickled, *safe]) == ["config.json", safe[0]]
    assert choose_files([*pickled, "preprocessor_config.json"]) == ["preprocessor_config.json", pickled[0]]
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    found = choose_files([*shards, "model.safetensors.index.json", *pickled, "config.json"])
    assert sorted(found) == sorted(["config.json", *shards, "model.safetensors.index.json"])
    assert choose_files(["B_16.npz", "README.md"]) == ["B_16.npz"]
    assert choose_files(["README.md", "config.json"]) == []


def test_commands_and_functions_take_the_name(hub: Hub, weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from vitreous.cli.main import main

    hub.add("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", weights)
    for name in (
        "augreg-ti",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    ):
        assert main(["inspect", name]) == 0
        printed = capfd.readouterr()
        assert "cat" in printed.out or "3 classes" in printed.out
        assert ("downloading" in printed.err) == (name == "augreg-ti")
    assert vitreous.load("augreg-ti").folder.classes == ("cat", "dog", "emu")
    assert main(["inspect", "dinov2-s"]) == 2
    assert "vitreous: error: there is no" in capfd.readouterr().err


@pytest.mark.slow
def test_a_process_that_is_interrupted_ends_quietly_and_the_next_goes_on(
    hub: Hub, weights: Path, tmp_path: Path
) -> None:
    """What a person sees: settings from the environment, Ctrl-C in the middle, and the same command again."""
    hub.add(NAME, weights)
    hub.slow = 3.0
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {**os.environ, **home, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "vitreous", "inspect", NAME]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not any(file.stat().st_size for file in (tmp_path / "home").rglob("*.vitreous.incomplete")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "vitreous: interrupted" and "Traceback" not in err
    hub.slow = 0
    asked = len(hub.asked)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "cat" in done.stdout or "3 classes" in done.stdout
    assert len([line for line in hub.asked[asked:] if line.startswith("GET /cdn/")]) == 1
    assert hub.starts[-1] > 0
    offline = subprocess.run(
        command, env=environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True
    )
    assert offline.stdout == done.stdout


@pytest.mark.parametrize("address", ["http://x:banana", "http://["])
def test_an_address_that_cannot_be_parsed_is_named_before_the_librarys_import(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    one_line(CheckpointError, re.escape(f"HF_ENDPOINT is {address!r}; it must be an address"), NAME)
