"""EdgeBench: measures what a compressed model gains and loses on the machine it runs on."""

__version__ = "0.1.0"
