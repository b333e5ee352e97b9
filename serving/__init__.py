"""What answers: requests, by a release in onnxruntime, with features from Feast. No torch, no Dagster."""
