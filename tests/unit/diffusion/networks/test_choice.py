"""What every network keeps: its door, its beginning, its classes, its folder."""

import copy
import dataclasses

import pytest
import torch

from diffusion.networks import ClassesConfig, NetworkConfig
from vqtok.storage.records import decode, encode

X, T, LABELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), [0, 999], [0, 5]


def given():
    """Images, steps and labels; the second image is of no class."""
    return X.clone(), torch.tensor(T), torch.tensor(LABELS)


def test_a_new_network_is_zero(config):
    """Before training, the prediction is exactly zero everywhere: nothing but noise is not made worse."""
    assert torch.equal(config.build()(*given()), torch.zeros_like(X))


def test_every_parameter_learns(network):
    """The gradient reaches every tensor, and every row of the class embedding that was asked for."""
    network(*given()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    assert network.classes.table.weight.grad.any(1).tolist() == [True, False, False, False, False, True]


@torch.no_grad()
def test_images_do_not_meet(network):
    """An image's prediction is its own: that of a batch is those of its images."""
    x, t, labels = given()
    alone = [network(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(network(x, t, labels), torch.cat(alone), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_step_and_class_are_heard(network):
    """Another step, a fraction of one, and another class change the prediction."""
    x, t, labels = given()
    plain = network(x, t, labels)
    assert not torch.allclose(network(x, t + 0.5, labels), plain, rtol=1e-4)
    assert not torch.allclose(network(x, t, labels.flip(0)), plain, rtol=1e-4)
    torch.testing.assert_close(network(x, t.double(), labels), plain)


@torch.no_grad()
def test_classes_are_left_out_in_training_only(config):
    """At 0.5, about half of the labels become the last row in train(); eval() keeps them all."""
    classes = dataclasses.replace(config.classes, drop=0.5)
    table = dataclasses.replace(config, classes=classes).build().classes
    labels = torch.zeros(4000, dtype=torch.int64)
    none = (table.train()(labels) == table.table.weight[5]).all(1)
    assert 0.45 < none.float().mean() < 0.55  # 6 standard deviations
    assert torch.equal(table.eval()(labels), table.table.weight[labels])


@torch.no_grad()
def test_train_changes_nothing_without_dropout(network):
    """train() and eval() agree where no dropout is set."""
    network.classes.config = dataclasses.replace(network.classes.config, drop=0.0)
    assert torch.equal(network.train()(*given()), network.eval()(*given()))


def test_bfloat16(network):
    """Under autocast predictions and gradients are finite and near float32's; all in bfloat16 works, too."""
    exact = network(*given())
    with torch.autocast("cpu", torch.bfloat16):
        near = network(*given())
    near.float().square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert (near - exact).norm() < 0.05 * exact.norm()  # bfloat16 has 8 bits, a few layers add up
    x, t, labels = given()
    half = copy.deepcopy(network).bfloat16()(x.bfloat16(), t, labels)
    assert (half - exact).norm() < 0.1 * exact.norm()


@torch.no_grad()
def test_saved_and_loaded(network, config, tmp_path):
    """A folder gives the same predictions, and the config survives JSON by its `kind`."""
    network.save_pretrained(tmp_path / "net")
    loaded = type(network).from_pretrained(tmp_path / "net")
    assert torch.equal(loaded(*given()), network(*given()))
    assert decode(NetworkConfig, encode(config), "recipe") == config == loaded.config


def test_bad_input(network):
    """Errors name the value, the limit and the way out."""
    x, t, labels = given()
    cases = [
        ((x[:, :2], t, labels), "of shape .2, 2, 16, 16.: give floating-point .b, 3, h, w."),
        ((x[:, :, :15], t, labels), "15 x 16: give one or more whose sides divide by"),
        ((x.long(), t, labels), "int64"),
        ((x, t[:1], labels), "t is torch.int64 of shape .1,.: give one step for each of 2 images"),
        ((x, t, None), "needs labels: give .2,. int64 labels below 5, or 5 for no class"),
        ((x, t, labels + 1), r"label 6 is outside \[0, 6\)"),
        ((x, t, labels.float()), "labels are torch.float32"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            network(*arguments)


def test_labels_nobody_asked_for(config):
    """A network without classes refuses labels, one without a vector for no class refuses that label."""
    x, t, labels = given()
    plain = dataclasses.replace(config, classes=None).build()
    with pytest.raises(ValueError, match="built without classes: leave labels out"):
        plain(x, t, labels)
    assert plain(x, t).shape == x.shape
    strict = dataclasses.replace(config, classes=ClassesConfig(count=5, null=False, drop=0.0)).build()
    with pytest.raises(ValueError, match=r"label 5 is outside \[0, 5\)"):
        strict(x, t, labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "classes.count 0 is below 1"),
        ({"count": 5, "drop": 1.0}, r"classes.drop 1.0 is outside \[0, 1\)"),
        ({"count": 5, "null": False}, "classes.drop 0.1 needs a vector for no class"),
    ],
)
def test_bad_classes(settings, message):
    """What cannot be trained is refused when it is configured."""
    with pytest.raises(ValueError, match=message):
        ClassesConfig(**settings)


def test_inside_is_all_but_the_ends(network):
    """What Muon may train: neither what takes pixels in nor what gives them out, nor what tells the time."""
    inside = {id(weight) for part in network.inside for weight in part.parameters()}
    outside = {name.split(".")[0] for name, weight in network.named_parameters() if id(weight) not in inside}
    ends = {"unet": {"conv_in", "norm_out", "conv_out"}, "dit": {"patches", "positions", "modulation", "out"}}
    assert outside - {"time", "classes"} <= ends[network.config.kind]
    assert {"time", "classes"} <= outside and inside
