"""Who is wrong: referee, findings, charges and the ledger."""
