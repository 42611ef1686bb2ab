"""What every stage needs and none owns: configuration, files, receipts, seeds, logging, protocols.

Imports nothing else of Orrery.
"""
