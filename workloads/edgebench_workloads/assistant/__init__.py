"""An on-device voice assistant: spoken-style command in, one JSON function call out.

`dataset` and `quality` never import torch; `train` does.
"""
