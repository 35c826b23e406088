"""Moving images between PuzzleFS and the layers that other tools know."""

from puzzlefs.convert.image import ConvertedImage, ConvertOptions, convert
from puzzlefs.convert.reverse import LayerCompression, LayeredImage, ReverseOptions, convert_back
from puzzlefs.convert.transports import SourceOptions

__all__ = [
    "ConvertOptions",
    "ConvertedImage",
    "LayerCompression",
    "LayeredImage",
    "ReverseOptions",
    "SourceOptions",
    "convert",
    "convert_back",
]
