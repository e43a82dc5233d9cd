"""What the rows on speculation ask: prompts whose answers repeat them, and others."""

from __future__ import annotations

_MINUTES = (
    "The committee met on the third of March at the old town hall to discuss the new bridge over "
    "the river. Mrs. Albers, who chairs it, opened the meeting at nine o'clock and greeted the "
    "fourteen members present. The engineer explained that the bridge will be 240 metres long and "
    "will cost about 31 million euros. Several members asked whether the foundations could be "
    "finished before the winter. He answered that the work would begin in May and that the "
    "foundations should be done in October. The treasurer reported that the state will pay sixty "
    "percent of the costs, and that the rest has to be raised by the city and the two counties."
)
_TYPOS = (
    "Our garden lies behind the house, between the old wall and the brook. In spring we sow "
    "carrots and beens, and in the autum we plant garlic. My grandmother says that the soil is "
    "the best in the vilage, because the brook floods it every few years. Last summer we had so "
    "many tomatos that we gave half of them to our neighbors. This year we want to bild a small "
    "greenhouse from old windows, so that we can begin a month earlyer."
)
_FUNCTION = '''def read_settings(path):
    """Read a file of lines `name = value` and return them as a dictionary."""
    result = {}
    with open(path) as file:
        for line in file:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, value = line.split("=", 1)
            result[name.strip()] = value.strip()
    return result
'''
_CONFIG = """[server]
host = "127.0.0.1"
port = 8080
workers = 4
timeout_s = 30

[database]
url = "postgres://localhost/orders"
pool_size = 10
echo = false

[logging]
level = "info"
file = "/var/log/orders.log"
rotate_mb = 50
"""
_PEOPLE = """- Anna Berger, anna.berger@northwind.example, Bremen
- Luis Ortega, luis.ortega@contoso.example, Sevilla
- Mei Tanaka, mei.tanaka@fabrikam.example, Osaka
- Oskar Lind, oskar.lind@northwind.example, Uppsala
- Priya Raman, priya.raman@tailspin.example, Chennai
- Tom Baker, tom.baker@contoso.example, Leeds
"""
_LABELS = """{
  "title": "My orders",
  "search": "Search for an order",
  "empty": "You have no orders yet",
  "cancel": "Cancel the order",
  "confirm": "Do you want to cancel this order?",
  "sent": "Your order has been sent",
  "help": "Help and contact"
}
"""
_CLASS = '''class Shelf:
    """Books by their title."""

    def __init__(self):
        self.books = {}

    def add_book(self, title, author):
        if title in self.books:
            raise ValueError(f"there is a book {title} already")
        self.books[title] = author

    def remove_book(self, title):
        if title not in self.books:
            raise ValueError(f"there is no book {title}")
        del self.books[title]
'''

EDITING = {
    "rename": "Rename the variable `result` to `settings` in this function and print the whole "
    f"function again.\n\n```python\n{_FUNCTION}```",
    "typos": "Correct the spelling mistakes in this text. Answer with the whole corrected text "
    f"and nothing else.\n\n{_TYPOS}",
    "to_json": "Write this list as a JSON array of objects with the fields name, email and "
    f"city.\n\n{_PEOPLE}",
    "config": "Change the port to 9090 in this file and print the whole file again.\n\n"
    f"```toml\n{_CONFIG}```",
    "extract": f"Copy the sentences of this text that speak of money, word by word.\n\n{_MINUTES}",
    "contacts": f"List the e-mail address of every person here, one a line.\n\n{_PEOPLE}",
    "keys": "Translate the keys of this JSON object to German, leave its values as they are, and "
    f"print the whole object.\n\n```json\n{_LABELS}```",
    "quotes": "Sum up this text in three points and support each with a sentence quoted from "
    f"it.\n\n{_MINUTES}",
    "complete": "Add a class `Rack` that is the same as this one but for records instead of "
    f"books.\n\n```python\n{_CLASS}```",
}
"""Editing and extraction: much of the answer stands in the prompt."""
OTHER = {
    "story": "Write a story about a lighthouse keeper who finds a letter in a bottle.",
    "explain": "Explain to a child of ten why the sky is blue.",
    "ideas": "Give ten ideas for a birthday party in the garden.",
    "poem": "Write a poem about the wind in autumn.",
    "letter": "Write a letter to a landlord about a heating that has been cold for a week.",
    "compare": "Compare travelling by train with travelling by car.",
    "recipe": "How do I make a soup of pumpkin and ginger for six people?",
    "history": "Describe how bread was made in a village three hundred years ago.",
    "function": "Write a Python function that tells whether a number is prime.",
}
"""Everything else: little or nothing to repeat."""
