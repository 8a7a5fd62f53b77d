"""What timm's config.json says of a model, and what a bare file can't: followed, refused, or told as assumed."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.references.test_families_originals import written
from tests.references.test_grids import TINY, changed, saved_by_timm, timms
from tests.support.twins import CLOSE, difference, randomise

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

WIDE = LoadOptions(grid=(2, 8), heads=4)
FOLLOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "tanh": ("vit_tiny_patch16_224", {"act_layer": "gelu_tanh"}),
    "quick": ("vit_tiny_patch16_224", {"act_layer": "quick_gelu"}),
    "another epsilon": ("vit_base_patch16_clip_224", {"norm_layer": "layernorm"}),
    "rms": ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm"}),
    "mean of normed tokens": ("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": False}),
    "mean over [class] too": ("vit_tiny_patch16_224", {"global_pool": "avg", "pool_include_prefix": True}),
    "mean, then a norm": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "norm of [class]": ("vit_tiny_patch16_224", {"global_pool": "token", "fc_norm": True}),
    "positions of patches alone": ("vit_tiny_patch16_224", {"no_embed_class": True, "reg_tokens": 3}),
    "positions of all": ("vit_tiny_patch16_224", {"no_embed_class": False, "reg_tokens": 3}),
    "patches that aren't square": ("vit_tiny_patch16_224", {"patch_size": [8, 16], "mlp_ratio": 2.5}),
    "no [class]": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "qkv_bias": False}),
    "scales and norms": ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True, "scale_mlp_norm": True}),
    "no positions": ("vit_tiny_patch16_224", {"pos_embed": "none"}),
}


def read_again(name: str, given: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Hold what is read of timm's model against it; return what was assumed."""
    model = timms(name, **given)
    found, report = load_foreign(saved_by_timm(model, folder))
    assert difference(found.model, model) < CLOSE
    return report.assumed


@pytest.mark.parametrize("kind", list(FOLLOWED))
def test_what_the_constructor_was_told_is_followed(kind: str, tmp_path: Path) -> None:
    assumed = read_again(*FOLLOWED[kind], tmp_path)
    assert not [note for note in assumed if "model_args" in note or "pools" in note]


REFUSED: dict[str, Any] = {
    "depth": 3,
    "embed_dim": 96,
    "in_chans": 1,
    "patch_size": [8, 16],
    "mlp_ratio": 3,
    "qkv_bias": False,
    "qk_norm": True,
    "proj_bias": False,
    "init_values": 1e-5,
    "class_token": False,
    "reg_tokens": 2,
    "pre_norm": True,
    "fc_norm": True,
    "final_norm": False,
    "norm_layer": "batchnorm2d",
    "act_layer": "relu",
    "block_fn": "ResPostBlock",
    "attn_layer": "diff",
    "global_pool": "avgmax",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_by_timm(timms(), tmp_path_factory.mktemp("timm"))


def said(saved: Path, folder: Path, **arguments: Any) -> Path:
    """The same weights beside a config.json whose model_args say other things too."""
    (folder / "model.safetensors").symlink_to(saved / "model.safetensors")
    (folder / "config.json").write_text((saved / "config.json").read_text())
    return changed(folder, model_args=arguments)


@pytest.mark.parametrize("name", list(REFUSED))
def test_another_model_than_the_tensors_make_is_refused(name: str, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^(the configuration next to|config\.json) .*") as raised:
        load_foreign(said(saved, tmp_path, **{name: REFUSED[name]}))
    assert (name if name != "global_pool" else "avgmax") in str(raised.value)


def test_what_changes_nothing_is_passed_over_and_what_nobody_knows_is_told(saved: Path, tmp_path: Path) -> None:
    harmless = {"drop_path_rate": 0.1, "dynamic_img_size": True, "weight_init": "jax", "num_classes": 1000}
    folder, report = load_foreign(said(saved, tmp_path, **harmless, wobble=3))
    assert folder.model.config.classes == 5
    assert [note for note in report.assumed if "model_args" in note] == [
        "wobble 3 of model_args, which vitreous doesn't know, makes no difference"
    ]


def test_older_configurations_say_all_at_their_top(saved: Path, tmp_path: Path) -> None:
    folder = said(saved, tmp_path)
    document = json.loads((folder / "config.json").read_text())
    flat = {"architecture": document["architecture"], "mean": [0.1, 0.2, 0.3], "std": [0.4] * 3, "crop_pct": 1.0}
    flat |= {"input_size": [3, 32, 128], "labels": ["a", "b", "c", "d", "e"]}
    (folder / "config.json").write_text(json.dumps(flat))
    found, _ = load_foreign(folder)
    assert (found.preprocess.mean, found.preprocess.crop) == ((0.1, 0.2, 0.3), 1.0)
    assert (found.model.config.grid, found.classes[4]) == ((2, 8), "e")
    (folder / "config.json").write_text(json.dumps(flat | {"label_names": {str(n): f"label {n}" for n in range(5)}}))
    assert load_foreign(folder)[0].classes == tuple(f"label {number}" for number in range(5))


def test_a_bare_file_is_read_as_the_architecture_that_it_is_called_as(tmp_path: Path) -> None:
    model = timms("vit_base_patch16_clip_quickgelu_224")
    path = written(model.state_dict(), tmp_path, "vit_base_patch16_clip_quickgelu_224.bin")
    folder, report = load_foreign(path, WIDE)
    assert difference(folder.model, model) < CLOSE
    assert any("vit_base_patch16_clip_quickgelu_224, by the file's name" in note for note in report.assumed)
    path.rename(tmp_path / "vit_base_patch16_224.bin")
    with pytest.raises(CheckpointError, match="its tensors have the norm before the blocks that a CLIP tower has"):
        load_foreign(tmp_path / "vit_base_patch16_224.bin")
    plain = timms().state_dict()
    folder, _ = load_foreign(written(plain, tmp_path, "deit_tiny_patch16_224-a1311bcf.pth"))
    assert folder.preprocess.mean[0] == 0.485
    after = timms("vit_base_patch16_rpn_224")
    folder, report = load_foreign(written(after.state_dict(), tmp_path, "vit_base_patch16_rpn_224-sw.pth"), WIDE)
    assert difference(folder.model, after) < CLOSE
    assert not any("normalised before" in note for note in report.assumed)


def test_a_bare_file_tells_all_that_is_assumed_of_it(tmp_path: Path) -> None:
    _, report = load_foreign(written(timms().state_dict(), tmp_path))
    told = "\n".join(report.assumed)
    for word in (
        "grid",
        "heads",
        "pools by [class]",
        "activation gelu",
        "epsilon 1e-6",
        "normalised before",
        "mean and deviation",
    ):
        assert word in told
    assert all(f"assumed     {note}" in str(report) for note in report.assumed)
    _, report = load_foreign(written(timms(class_token=False, global_pool="avg").state_dict(), tmp_path))
    assert "it pools by the mean over the patches, prefix tokens left out" in report.assumed


OF_OTHER_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "temperature": ("vit_small_patch16_rope_224", {"rope_temperature": 10.0}),
    "indexing": ("vit_small_patch16_rope_224", {"rope_grid_indexing": "ij"}),
    "offset": ("vit_pe_core_tiny_patch16_384", {"rope_grid_offset": 0.0}),
    "reference": ("vit_pe_core_tiny_patch16_384", {"ref_feat_shape": (8, 8)}),
    "heads of the pooling": ("vit_pe_core_tiny_patch16_384", {"attn_pool_num_heads": 4}),
    "temperature of EVA-02": ("eva02_tiny_patch14_224", {"rope_temperature": 100.0}),
    "gate": ("aimv2_large_patch14_224", {"act_layer": "gelu"}),
    "features of a Swin": ("swin_tiny_patch4_window7_224", {"global_pool": "max"}),
    "no pooling under a head": ("swin_tiny_patch4_window7_224", {"global_pool": ""}),
    "features of an EfficientNet": ("efficientnet_b0", {"global_pool": "max"}),
    "features of BiT": ("resnetv2_50x1_bit", {"global_pool": "max"}),
    "activation of BiT": ("resnetv2_50x1_bit", {"act_layer": "silu"}),
}


@pytest.mark.parametrize("case", list(OF_OTHER_CLASSES))
def test_arguments_of_every_class_are_refused_where_no_model_here_has_them(case: str, tmp_path: Path) -> None:
    name, given = OF_OTHER_CLASSES[case]
    import timm

    settings = TINY if name.startswith(("vit", "eva", "aim")) else {"num_classes": 5}
    saved_by_timm(timm.create_model(name, **settings, **given), tmp_path)
    with pytest.raises(CheckpointError, match=rf"^the configuration next to .* says .*{next(iter(given))}") as raised:
        load_foreign(tmp_path)
    assert "\n" not in str(raised.value)


READ_ELSEWHERE: dict[str, tuple[str, dict[str, Any]]] = {
    "prefix tokens pooled": ("vit_base_patch16_xp_224", {"pool_include_prefix": True, "global_pool": "avg"}),
    "EVA-02 without biases": ("eva02_tiny_patch14_224", {"qkv_bias": False, "patch_size": 16}),
    "a reference grid": ("vit_small_patch16_rope_224", {"ref_feat_shape": (4, 4)}),
    "offsets by a table": ("vit_relpos_base_patch16_224", {"rel_pos_type": "bias"}),
}


@pytest.mark.parametrize("case", list(READ_ELSEWHERE))
def test_arguments_of_other_classes_are_read(case: str, tmp_path: Path) -> None:
    assert not [note for note in read_again(*READ_ELSEWHERE[case], tmp_path) if "model_args" in note]


@pytest.mark.parametrize("file", ["model.safetensors", "test_vit3.safetensors"])
def test_prefix_tokens_are_pooled_where_the_architecture_does_so(file: str, tmp_path: Path) -> None:
    import timm

    model = randomise(timm.create_model("test_vit3", depth=2, num_classes=5))
    saved_by_timm(model, tmp_path)
    if file != "model.safetensors":
        (tmp_path / "config.json").unlink()
        (tmp_path / "model.safetensors").rename(tmp_path / file)
    folder, _ = load_foreign(tmp_path / file)
    assert (folder.model.config.heads, folder.model.config.pool_prefix) == (3, True)
    assert difference(folder.model, model) < CLOSE


def test_a_head_over_tokens_that_are_not_pooled_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="names the pooling ''"):
        load_foreign(said(saved, tmp_path, global_pool=""))


@pytest.mark.parametrize("left_out", [("crop_pct",), ("mean", "std", "interpolation"), ()])
def test_what_a_transform_leaves_out_is_timms_own_default(
    left_out: tuple[str, ...], saved: Path, tmp_path: Path
) -> None:
    import timm
    from timm.data import resolve_data_config

    folder = said(saved, tmp_path)
    document = json.loads((folder / "config.json").read_text())
    kept = {key: one for key, one in document["pretrained_cfg"].items() if key not in left_out} if left_out else {}
    (folder / "config.json").write_text(json.dumps(document | {"pretrained_cfg": kept}))
    theirs = resolve_data_config({}, model=timm.create_model(f"local-dir:{folder}", pretrained=True))
    ours = load_foreign(folder)[0].preprocess
    assert (ours.crop, ours.interpolation) == (theirs["crop_pct"], theirs["interpolation"])
    assert (ours.mean, ours.std) == (tuple(theirs["mean"]), tuple(theirs["std"]))


def test_a_bare_file_called_as_beit3_has_its_epsilon(tmp_path: Path) -> None:
    model = timms("beit3_base_patch16_224")
    folder, report = load_foreign(written(model.state_dict(), tmp_path, "beit3_base_patch16_224.bin"), WIDE)
    assert folder.model.config.norm_eps == 1e-5
    assert difference(folder.model, model) < CLOSE
    assert any("beit3_base_patch16_224, by the file's name" in note for note in report.assumed)
