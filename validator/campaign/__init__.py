"""Many runs, judged as one: which jobs there are, who runs them, and what becomes of each."""
