"""Rows of the ledger in the words of other billing systems: pure formats, and what those systems' answers mean.

A destination is told each row once, under an identifier that follows from the ledger's key. What a row takes back is
negative, as in the ledger: whoever sums up has the same sum.
"""
