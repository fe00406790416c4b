"""Published weights in and out: how others name and lay out what is trained here, as tables."""
