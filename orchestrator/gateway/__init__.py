"""Takes webhooks in: proven, stored, and their runs opened, before the sender is answered."""
