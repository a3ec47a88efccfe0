"""Datasets as conversations, pairs and problems, and these as tokens with what is learned marked.

rows of any dataset (reading.py) → recognised by their columns (schemas.py, turns.py) → Conversation, Pair or
Problem (kinds.py) → what is held out (splitting.py) → examples through the chat template (rendering.py) →
looked over before step 0 (preflight.py).
"""
