"""What a person can answer about a document in doubt."""

APPROVE, CORRECT, REJECT, LATER = "Approve as read", "Save corrections", "Reject", "Later"
OPTIONS = (APPROVE, CORRECT, REJECT, LATER)
