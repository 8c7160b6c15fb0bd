"""How does one field become another? Knowledge distillation, and edits by way of it."""
