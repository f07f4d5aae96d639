import torch

from medssl.data.preprocessing import compose
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.tasks.classification import Classification


def fitted(shape, fit):
    task = Classification.Config(columns=("kind",), fit=fit).build(labels=("x", "y"))
    transform = compose(task.input_specs((8, 8, 8)))
    return transform({"image": torch.arange(float(torch.Size(shape).numel())).view(1, *shape)})


def test_resized_volumes_show_everything_and_keep_their_mean():
    image = fitted((16, 24, 8), "resize")["image"]
    assert image.shape == (1, 8, 8, 8)
    assert torch.allclose(image.mean(), torch.tensor((16 * 24 * 8 - 1) / 2.0))


def test_cropped_volumes_show_their_middle_and_are_filled_up():
    volume = torch.arange(float(16 * 4 * 8)).view(1, 16, 4, 8)
    image = fitted((16, 4, 8), "crop")["image"].as_tensor()
    assert image.shape == (1, 8, 8, 8)
    assert torch.equal(image[:, :, 2:6], volume[:, 4:12])
    assert torch.count_nonzero(image[:, :, :2]) == torch.count_nonzero(image[:, :, 6:]) == 0


def test_the_network_stands_on_the_encoders_own_weights():
    task = Classification.Config(columns=("kind",)).build(labels=("x", "y", "z"))
    encoder = SegResNetEncoder.Config.tiny().build()
    network, definition = task.network(encoder)
    assert definition is None
    assert network(torch.rand(2, 1, 16, 16, 16)).shape == (2, 3)
    assert {id(p) for p in encoder.parameters()} < {id(p) for p in network.parameters()}
