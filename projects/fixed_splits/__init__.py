"""Public sets with a fixed split, in the form and with the protocol of the BARS benchmark."""
