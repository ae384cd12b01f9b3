"""What a trained network is worth: one page of figures, audits and pictures, and the model card."""
