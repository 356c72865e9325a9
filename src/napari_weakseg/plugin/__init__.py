"""The napari face: the only place that imports napari, Qt, magicgui and superqt."""
