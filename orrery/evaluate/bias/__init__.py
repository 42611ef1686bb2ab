"""Social bias in answers (BBQ), and gaps between groups of people in any decisions."""
