"""Amazon Bedrock's Converse API as a provider."""

from .plugin import Bedrock
from .wire import ConverseWire

__all__ = ["Bedrock", "ConverseWire"]
