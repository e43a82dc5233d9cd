"""What every part of Isthmus speaks of: requests, events, decisions, deadlines, prices, errors."""
