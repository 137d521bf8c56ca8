"""What ``[sparsification]`` means: the method that it names, and its k, period and messages for D parameters."""

from __future__ import annotations

from fedmpi.config import parts
from fedmpi.config.schema import SparsificationConfig
from fedmpi.sparsification.codec import DENSE, Codec, WireCodec
from fedmpi.sparsification.interface import DenseMethod, Method, SparseMethod


def method_of(section: SparsificationConfig) -> Method:
    """The method that is named, with its options. Raises ConfigError for one that cannot be found or built."""
    return parts.build("sparsification.method", section.method, section.options, Method)


def has_k(method: Method) -> bool:
    """Whether there is a k: not where everything travels in every round."""
    if isinstance(method, DenseMethod):
        return method.period is not None
    return not (isinstance(method, SparseMethod) and method.all_entries)


def fixed_k(section: SparsificationConfig, method: Method, dimension: int) -> int:
    """The k of a run whose k nobody controls; D where a method knows none."""
    if not has_k(method):
        return dimension
    return section.k or max(1, round(section.k_fraction * dimension))


def exchange_period(section: SparsificationConfig, method: Method, dimension: int) -> int:
    """Rounds from one exchange to the next."""
    if isinstance(method, DenseMethod) and method.period is not None:
        return method.period(dimension, fixed_k(section, method, dimension))
    return 1


def codec_of(section: SparsificationConfig, method: Method) -> Codec:
    """The form of its messages: the method's own, or that of ``wire``; positions that are shared do not travel."""
    if not isinstance(method, SparseMethod):
        return DENSE
    if method.codec is not None:
        return method.codec
    return WireCodec("values" if method.coordinates is not None else section.wire, section.value_type)


def codec_down_of(section: SparsificationConfig, method: Method) -> Codec:
    """The form of what the server sends."""
    down = method.codec_down if isinstance(method, SparseMethod) else None
    return codec_of(section, method) if down is None else down
