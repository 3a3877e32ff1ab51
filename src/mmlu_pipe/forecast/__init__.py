"""What an evaluation will take, forecast from what was recorded: tokens, time, and money where prices are given."""
