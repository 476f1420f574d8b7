"""May it ship: policies, waivers, statistics and the judgement over runs."""
