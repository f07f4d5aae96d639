"""One fine-tuning many times, beside its twin from scratch: what pretraining is worth, and when."""
