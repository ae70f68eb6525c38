"""How what is written is read aloud: numbers, dates, prices, addresses and whatever else is no plain word.

Each module has one rule: a function that looks at a text and claims the spans that it knows how to read. `reader.py`
asks all of them and settles which claims stand.
"""
