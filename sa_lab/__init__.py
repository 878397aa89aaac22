"""sa_lab: SA-Softmax for visible-infrared person re-identification, to learn from, to analyse and to use."""

__version__ = "0.4.0"
