"""From log rows to features, labels and tensors: functions of frames, with no files."""
