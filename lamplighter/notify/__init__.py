"""Who is told what, through which channel, once: cases, an outbox, escalation, signs of life."""
