"""Programs that use the decoder as other apps would. Each runs by itself: see README.md."""
