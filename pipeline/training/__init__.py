"""The walks over the slices: teachers score, then train; students are judged, then train beside their controls."""
