"""How things look in Slack: nouns in, blocks out, nothing else."""
