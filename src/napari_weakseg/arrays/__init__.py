"""Plain arrays in, plain arrays out: numpy, SciPy, scikit-image; neither files nor networks nor windows."""
