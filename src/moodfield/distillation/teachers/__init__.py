"""Published networks whose outputs a small network learns from, as torch modules on waveforms."""
