"""People compare answers blind, in a browser: which of two is better, and how good each is by a rubric.

votes     what people said, one row a vote, on the disk before they are thanked
ballot    what is shown to whom, on which side; identities stay here until somebody has seen everything
tally     ratings with intervals, wins, how far people agree, what the left side is worth
app       the page and its few routes
"""
