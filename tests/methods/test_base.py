"""What the base class of methods promises."""

from torch import nn

from medssl.methods.base import Method


def test_a_decoder_that_a_method_sets_is_the_one_it_has():
    method = Method()
    assert method.decoder is None
    method.decoder = nn.Identity()
    assert isinstance(method.decoder, nn.Identity)
